#include "text/wordpiece.h"

#include <utf8proc.h>

#include "base/error.h"
#include "base/file.h"
#include "text/utf8.h"

namespace cepe {
namespace {

constexpr int kLongestWord = 100;  // characters

utf8proc_category_t category(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }

bool is_removed(char32_t c) {
  if (c == 0 || c == 0xFFFD) return true;
  if (c == '\t' || c == '\n' || c == '\r') return false;
  switch (category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CO: return true;
    default: return false;
  }
}

// Of the blocks that BERT's own tokenizer names: ideographs, not all of Chinese, Japanese or Korean writing.
bool is_ideograph(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
         (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

bool is_punctuation(char32_t c) {
  if (c < 0x80) {
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
  }
  const utf8proc_category_t found = category(c);
  return found >= UTF8PROC_CATEGORY_PC && found <= UTF8PROC_CATEGORY_PO;
}

template <typename Use>
void for_each_character(std::string_view text, const Use& use) {
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = code_point_at(text, at);
    use(c.value, text.substr(at, c.size));
    at += c.size;
  }
}

std::string without_marks(std::string_view text) {
  std::string out;
  for_each_character(text, [&](char32_t c, std::string_view bytes) {
    if (c < 0x80 || category(c) != UTF8PROC_CATEGORY_MN) out += bytes;
  });
  return out;
}

}  // namespace

WordPiece::WordPiece(const std::filesystem::path& vocabulary, const WordPieceSettings& settings) : settings_(settings) {
  decomposition_.add_unicode_form(Normalizer::Form::nfd);
  const std::string where = vocabulary.string(), text = read_file(vocabulary);
  for (size_t begin = 0; begin < text.size();) {
    size_t end = text.find('\n', begin);
    if (end == std::string::npos) end = text.size();
    std::string_view piece(text.data() + begin, end - begin);
    if (piece.ends_with('\r')) piece.remove_suffix(1);
    require(find_invalid_utf8(piece) == std::string_view::npos, "{}:{}: not valid UTF-8", where, size_ + 1);
    const bool continues = piece.size() > 2 && piece.starts_with("##");
    auto& pieces = continues ? continues_ : begins_;
    const bool fresh = pieces.emplace(piece.substr(continues ? 2 : 0), static_cast<TokenId>(size_)).second;
    require(fresh, "{}:{}: the piece \"{}\" stands there twice", where, size_ + 1, piece);
    ++size_;
    begin = end + 1;
  }
  unknown_ = special("[UNK]", where);
  cls_ = special("[CLS]", where);
  sep_ = special("[SEP]", where);
}

TokenId WordPiece::special(const char* piece, const std::string& where) const {
  const auto found = begins_.find(piece);
  require(found != begins_.end(), "{}: the piece {} is missing, expected a WordPiece vocabulary", where, piece);
  return found->second;
}

std::string WordPiece::clean(std::string_view text) const {
  std::string cleaned;
  cleaned.reserve(text.size());
  for_each_character(text, [&](char32_t c, std::string_view bytes) {
    if (is_removed(c)) return;
    if (is_white_space(c)) {
      cleaned += ' ';
    } else if (settings_.space_ideographs && is_ideograph(c)) {
      cleaned.append(" ").append(bytes).append(" ");
    } else {
      cleaned += bytes;
    }
  });
  if (settings_.strip_accents) {
    std::string storage;
    cleaned = without_marks(decomposition_.apply(cleaned, storage));
  }
  return settings_.lower_case ? lower_case(cleaned) : cleaned;
}

void WordPiece::add_word(std::string_view word, std::vector<TokenId>& ids) const {
  std::vector<size_t> ends;  // of its characters
  for_each_character(word, [&](char32_t, std::string_view bytes) { ends.push_back(bytes.end() - word.begin()); });
  if (ends.size() > kLongestWord) return ids.push_back(unknown_);
  const size_t before = ids.size();
  size_t begin = 0;
  for (size_t first = 0; first < ends.size();) {
    const auto& pieces = first == 0 ? begins_ : continues_;
    size_t last = ends.size();
    for (; last > first; --last) {
      const auto found = pieces.find(std::string(word.substr(begin, ends[last - 1] - begin)));
      if (found == pieces.end()) continue;
      ids.push_back(found->second);
      break;
    }
    if (last == first) {  // no piece covers this character
      ids.resize(before);
      return ids.push_back(unknown_);
    }
    begin = ends[last - 1];
    first = last;
  }
}

std::vector<TokenId> WordPiece::encode(std::string_view text) const {
  require_utf8(text);
  const std::string cleaned = clean(text);
  std::vector<TokenId> ids;
  size_t word = 0, at = 0;  // the word begun at `word`
  const auto end_word = [&](size_t next) {
    if (at > word) add_word(std::string_view(cleaned).substr(word, at - word), ids);
    word = next;
  };
  for_each_character(cleaned, [&](char32_t c, std::string_view bytes) {
    const size_t next = at + bytes.size();
    if (is_white_space(c)) {
      end_word(next);
    } else if (is_punctuation(c)) {
      end_word(next);
      add_word(bytes, ids);
    }
    at = next;
  });
  end_word(at);
  return ids;
}

}  // namespace cepe
