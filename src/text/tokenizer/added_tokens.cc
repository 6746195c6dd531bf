#include "text/tokenizer/added_tokens.h"

#include <algorithm>

#include "text/utf8.h"

namespace cepe {
namespace {

bool stands_alone(std::string_view text, size_t begin, size_t end) {
  if (begin > 0 && is_word_character(code_point_before(text, begin).value)) return false;
  return end == text.size() || !is_word_character(code_point_at(text, end).value);
}

// No further than to `first`.
size_t skip_space_before(std::string_view text, size_t at, size_t first) {
  while (at > first) {
    const CodePoint c = code_point_before(text, at);
    if (!is_white_space(c.value)) break;
    at -= c.size;
  }
  return std::max(at, first);
}

size_t skip_space_after(std::string_view text, size_t at) {
  while (at < text.size()) {
    const CodePoint c = code_point_at(text, at);
    if (!is_white_space(c.value)) break;
    at += c.size;
  }
  return at;
}

}  // namespace

AddedTokenMatcher::AddedTokenMatcher(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)), roots_(256, -1) {
  for (size_t k = 0; k < tokens_.size(); ++k) {
    if (!tokens_[k].content.empty()) insert(tokens_[k].content, static_cast<int32_t>(k));
  }
}

int32_t AddedTokenMatcher::find_child(int32_t node, unsigned char byte) const {
  int32_t child = nodes_[node].child;
  while (child >= 0 && nodes_[child].byte != byte) child = nodes_[child].sibling;
  return child;
}

void AddedTokenMatcher::insert(std::string_view content, int32_t token) {
  int32_t& root = roots_[static_cast<unsigned char>(content[0])];
  if (root < 0) {
    root = static_cast<int32_t>(nodes_.size());
    nodes_.push_back({static_cast<unsigned char>(content[0])});
  }
  int32_t node = root;
  for (const char c : content.substr(1)) {
    const auto byte = static_cast<unsigned char>(c);
    int32_t child = find_child(node, byte);
    if (child < 0) {
      child = static_cast<int32_t>(nodes_.size());
      nodes_.push_back({byte, -1, -1, nodes_[node].child});
      nodes_[node].child = child;
    }
    node = child;
  }
  nodes_[node].token = token;
}

int32_t AddedTokenMatcher::longest_match(std::string_view text, size_t at) const {
  int32_t best = -1;
  int32_t node = roots_[static_cast<unsigned char>(text[at])];
  while (node >= 0) {
    if (nodes_[node].token >= 0) best = nodes_[node].token;
    if (++at == text.size()) break;
    node = find_child(node, static_cast<unsigned char>(text[at]));
  }
  return best;
}

// A match that is refused (a special token that is not to be parsed, a word that does not stand alone) is still
// passed over as a whole, and the white space that a token takes may reach into the next match: both as in the
// reference.
void AddedTokenMatcher::split(std::string_view text, bool parse_special, std::vector<TextPart>& parts) const {
  if (text.empty()) return;
  size_t text_begin = 0;
  size_t space_begin = 0, space_end = 0;  // white space that was passed over, so that it is passed over once
  for (size_t at = 0; !tokens_.empty() && at < text.size();) {
    const int32_t found = longest_match(text, at);
    if (found < 0) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[found];
    size_t begin = at, end = at + token.content.size();
    at = end;
    if (token.special && !parse_special) continue;
    if (token.single_word && !stands_alone(text, begin, end)) continue;
    if (token.lstrip) begin = skip_space_before(text, begin, text_begin);
    if (token.rstrip && (end < space_begin || end > space_end)) {
      space_begin = end;
      space_end = skip_space_after(text, end);
    }
    if (token.rstrip) end = space_end;
    if (begin >= end) continue;  // nothing is left of it: a token before took all, as white space
    if (text_begin < begin) parts.push_back({text.substr(text_begin, begin - text_begin), -1});
    parts.push_back({text.substr(begin, end - begin), token.id});
    text_begin = end;
  }
  if (text_begin < text.size()) parts.push_back({text.substr(text_begin), -1});
}

}  // namespace cepe
