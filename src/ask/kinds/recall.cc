// Verbatim recall: going on after a quotation, sentences and paragraphs by their beginning, whole short texts.
#include <algorithm>
#include <cctype>

#include "ask/kinds/draft.h"
#include "ask/sources/sentences.h"
#include "base/error.h"

namespace cepe {
namespace {

constexpr const char* kFollow[] = {
    "What follows after \"{}\"?",
    "How does the text go on after \"{}\"?",
    "Continue: {}",
    "Go on with the text from here: \"{}\"",
    "The text says \"{}\". What comes next?",
    "Complete the quotation: \"{}",
};
constexpr const char* kWords[] = {
    "What are the next {1} words after \"{0}\"?",
    "Give the {1} words that follow \"{0}\".",
    "Quote {1} words of the text from where it says: \"{0}\"",
};
constexpr const char* kSentence[] = {
    "Repeat the sentence that begins with \"{}\".",
    "Which sentence begins with \"{}\"?",
    "Quote the whole sentence that starts with \"{}\".",
};
constexpr const char* kNext[] = {
    "Which sentence comes after \"{}\"?",
    "What does the text say directly after \"{}\"?",
};
constexpr const char* kBefore[] = {
    "Which sentence comes before \"{}\"?",
    "What does the text say directly before \"{}\"?",
};
constexpr const char* kParagraph[] = {
    "Repeat the paragraph that begins with \"{}\".",
    "Write out the paragraph starting with \"{}\".",
    "Quote the paragraph \"{} ...\" in full.",
};
constexpr const char* kWhole[] = {
    "Repeat the text.",        "Write the text again, word for word.",
    "Quote the whole text.",   "What does the text say, word for word?",
    "Reproduce the document.",
};

// The first `count` words of a text, and what is left.
std::pair<std::string_view, std::string_view> split_words(std::string_view text, int64_t count) {
  size_t at = 0;
  for (int64_t i = 0; i < count && at < text.size(); ++i) {
    at = text.find_first_not_of(" \n\t", at);
    if (at == std::string_view::npos) return {text, {}};
    at = std::min(text.find_first_of(" \n\t", at), text.size());
  }
  return {text.substr(0, at), text.substr(at)};
}

// Running text, which can stand on one line; code and formulas are quoted as they are (go_on).
bool is_prose(std::string_view text) {
  const auto plain = std::count_if(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) || c >= 0x80 || c == ' ' || c == '\n' || c == ',' || c == '.' || c == '\'';
  });
  return static_cast<double>(plain) > 0.94 * static_cast<double>(text.size());
}

bool has_empty_line(std::string_view text) {
  for (size_t at = text.find('\n'); at != std::string_view::npos; at = text.find('\n', at + 1)) {
    const size_t next = text.find_first_not_of(" \t\r", at + 1);
    if (next != std::string_view::npos && text[next] == '\n') return true;
  }
  return false;
}

int64_t words_in(std::string_view text) {
  int64_t count = 0;
  bool inside = false;
  for (const char c : text) {
    const bool space = c == ' ' || c == '\n' || c == '\t';
    if (!space && !inside) ++count;
    inside = !space;
  }
  return count;
}

class RecallMaker {
 public:
  RecallMaker(AskDraft& draft, AskRandom& random) : draft_(draft), random_(random) {
    for (const AskDocument& document : draft_.documents) pieces_.push_back(split_sentences(document.text));
  }

  // A turn of a random kind; false where this draw gives none.
  bool add() {
    const size_t d = static_cast<size_t>(random_.below(static_cast<int64_t>(pieces_.size())));
    if (pieces_[d].size() < 3) return false;
    const size_t p = static_cast<size_t>(random_.below(static_cast<int64_t>(pieces_[d].size()) - 1));
    switch (random_.weighted({3, 2, 2, 1, 1, 1})) {
      case 0: return follow(d, p, false);
      case 1: return follow(d, p, true);
      case 2: return sentence(d, p);
      case 3: return neighbour(d, p, p + 1, kNext);
      case 4: return p > 0 && neighbour(d, p, p - 1, kBefore);
      default: return paragraph(d, p);
    }
  }

  // A text to go on with as it stands, line breaks too.
  bool go_on() {
    const size_t d = static_cast<size_t>(random_.below(static_cast<int64_t>(pieces_.size())));
    const std::string_view rest = from(d, static_cast<size_t>(random_.below(static_cast<int64_t>(pieces_[d].size()))));
    const auto [quote, after] = split_words(rest, random_.between(6, 30));
    const auto [answer, left] = split_words(after, random_.between(12, 90));
    if (words_in(answer) < 8 || !unique(quote)) return false;
    AskTurn turn{.question = "", .answer = std::string(trimmed(answer)), .wording = std::string(trimmed(quote))};
    // Where a line break comes next, the answer begins at the break.
    if (answer.starts_with('\n')) return false;
    turn.open = true;
    draft_.plain = true;
    draft_.turns = {std::move(turn)};
    return true;
  }

 private:
  std::string_view from(size_t d, size_t p) const {
    const std::string& text = draft_.documents[d].text;
    return std::string_view(text).substr(static_cast<size_t>(pieces_[d][p].data() - text.data()));
  }
  bool unique(std::string_view quote) const {
    size_t count = 0;
    for (const AskDocument& document : draft_.documents) count += count_occurrences(document.text, trimmed(quote));
    return count == 1;
  }
  bool add_turn(std::string question, std::string_view answer) {
    if (!is_prose(answer) || !is_prose(question)) return false;
    draft_.turns.push_back({std::move(question), on_one_line(answer)});
    return true;
  }

  bool follow(size_t d, size_t p, bool counted) {
    const auto [skipped, rest] = split_words(from(d, p), random_.between(0, 6));
    const auto [quote, after] = split_words(rest, random_.between(6, 30));
    const int64_t words = counted ? random_.between(3, 40) : random_.between(12, 80);
    std::string_view answer = split_words(after, words).first;
    // Not counted: up to the end of a sentence.
    if (!counted) {
      const std::vector<std::string_view> ends = split_sentences(answer);
      if (ends.size() < 2) return false;
      answer.remove_suffix(ends.back().size());
    }
    if (words_in(answer) < 3 || (counted && words_in(answer) != words) || !unique(quote)) return false;
    const std::string shown = on_one_line(quote);
    return add_turn(counted ? fmt::format(fmt::runtime(random_.pick(kWords)), shown, words)
                            : fmt::format(fmt::runtime(random_.pick(kFollow)), shown),
                    answer);
  }

  bool sentence(size_t d, size_t p) {
    const std::string_view whole = trimmed(pieces_[d][p]);
    const std::string_view begin = split_words(whole, random_.between(3, 7)).first;
    if (words_in(whole) < 8 || words_in(whole) > 90 || !unique(begin)) return false;
    return add_turn(fmt::format(fmt::runtime(random_.pick(kSentence)), on_one_line(begin)), whole);
  }

  template <size_t n>
  bool neighbour(size_t d, size_t shown, size_t asked, const char* const (&forms)[n]) {
    const std::string_view quote = trimmed(pieces_[d][shown]), answer = trimmed(pieces_[d][asked]);
    const int64_t words = words_in(quote);
    if (words < 5 || words > 50 || words_in(answer) < 3 || words_in(answer) > 80 || !unique(quote)) return false;
    return add_turn(fmt::format(fmt::runtime(random_.pick(forms)), on_one_line(quote)), answer);
  }

  bool paragraph(size_t d, size_t p) {
    if (p == 0 || !pieces_[d][p - 1].ends_with('\n')) return false;
    std::string_view whole = from(d, p);
    whole = whole.substr(0, whole.find('\n'));
    const std::string_view begin = split_words(whole, random_.between(4, 8)).first;
    if (words_in(whole) < 15 || words_in(whole) > 200 || !unique(begin)) return false;
    return add_turn(fmt::format(fmt::runtime(random_.pick(kParagraph)), on_one_line(begin)), whole);
  }

  AskDraft& draft_;
  AskRandom& random_;
  std::vector<std::vector<std::string_view>> pieces_;
};

}  // namespace

AskDraft make_recall(const AskSources& sources, AskRequest& request) {
  constexpr int kTries = 60, kMostTurns = 16;
  AskDraft draft;
  // A part of the draws are texts of more than one document.
  int64_t left = request.tokens();
  const int64_t part = request.random.chance(0.7) ? left : request.random.log_between(100, left);
  while (left > 60) {
    std::vector<AskDocument> more =
        sources.corpus.draw(request.random, {.validation = request.validation, .tokens = std::min(part, left)});
    if (more.empty()) break;
    for (AskDocument& document : more) draft.documents.push_back(std::move(document));
    left -= part;
  }
  if (draft.documents.empty()) return draft;
  const bool one = draft.documents.size() == 1 && request.tokens() <= request.decoder_tokens * 6 / 10;
  if (one && request.random.chance(0.5)) {
    draft.documents[0].title.clear();  // it is not a part of the text that is asked for
    const std::string& text = draft.documents[0].text;
    if (request.random.chance(0.5)) {
      if (has_empty_line(trimmed(text))) return draft;  // which ends an answer
      draft.turns.push_back({request.random.pick(kWhole), std::string(trimmed(text))});
    } else {  // the warm-up of CEPE: the decoder writes what the encoder reads
      const auto [quote, answer] = split_words(text, request.random.between(1, 8));
      if (answer.empty() || answer.starts_with('\n')) return draft;
      draft.plain = true;
      draft.turns.push_back({.question = "",
                             .answer = std::string(trimmed(answer)),
                             .wording = std::string(trimmed(quote)),
                             .open = true});
    }
    return draft;
  }
  RecallMaker maker(draft, request.random);
  const bool plain = request.random.chance(0.3);
  const int64_t turns = plain ? 1 : request.random.log_between(2, kMostTurns);
  for (int i = 0; i < kTries && static_cast<int64_t>(draft.turns.size()) < turns; ++i) {
    plain ? maker.go_on() : maker.add();
  }
  return draft;
}

}  // namespace cepe
