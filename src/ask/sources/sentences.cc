#include "ask/sources/sentences.h"

#include <algorithm>

namespace cepe {
namespace {

constexpr std::string_view kSpace = " \t\r\n\v\f";
constexpr std::string_view kAbbreviations[] = {"Mr",  "Mrs", "Ms", "Dr", "St",  "Jr",  "Sr",   "vs",  "etc",
                                               "e.g", "i.e", "cf", "No", "Vol", "Col", "Gen",  "Lt",  "Capt",
                                               "Rev", "Hon", "al", "ca", "c",   "Inc", "Corp", "Prof"};

bool is_space(char c) { return kSpace.find(c) != std::string_view::npos; }

// Whether the stop at `at` ends a sentence, as far as the word before it says.
bool stop_after_word(std::string_view text, size_t at) {
  if (text[at] != '.') return true;
  size_t begin = at;
  while (begin > 0 && !is_space(text[begin - 1]) && text[begin - 1] != '(' && text[begin - 1] != '"') --begin;
  const std::string_view word = text.substr(begin, at - begin);
  const bool initial = word.size() == 1 && word[0] >= 'A' && word[0] <= 'Z';
  const bool initials = word.size() >= 3 && word[word.size() - 2] == '.';  // "U.S."
  return !initial && !initials &&
         std::find(std::begin(kAbbreviations), std::end(kAbbreviations), word) == std::end(kAbbreviations);
}

// The end of the closing quotes and brackets from `at` on.
size_t after_closing(std::string_view text, size_t at) {
  for (;;) {
    const std::string_view rest = text.substr(at);
    if (rest.starts_with("\xE2\x80\x99") || rest.starts_with("\xE2\x80\x9D")) {
      at += 3;
    } else if (!rest.empty() && std::string_view("\"')]").find(rest[0]) != std::string_view::npos) {
      ++at;
    } else {
      return at;
    }
  }
}

}  // namespace

std::vector<std::string_view> split_sentences(std::string_view text) {
  std::vector<std::string_view> pieces;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    size_t end = 0;
    if (text[at] == '\n') {
      end = at;
    } else if (text[at] == '.' || text[at] == '!' || text[at] == '?') {
      const size_t after = after_closing(text, at + 1);
      if (after < text.size() && text[after] == ' ' && stop_after_word(text, at)) end = after;
    }
    ++at;
    if (end == 0) continue;
    size_t next = end;
    while (next < text.size() && is_space(text[next])) ++next;
    const bool line = text.substr(end, next - end).find('\n') != std::string_view::npos;
    if (!line && next < text.size() && text[next] >= 'a' && text[next] <= 'z') continue;
    // The indentation of the next line belongs to that line.
    if (line) next = end + text.substr(end, next - end).rfind('\n') + 1;
    pieces.push_back(text.substr(begin, next - begin));
    begin = at = next;
  }
  if (begin < text.size()) pieces.push_back(text.substr(begin));
  return pieces;
}

std::string_view trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

std::string on_one_line(std::string_view text) {
  std::string line;
  for (const char c : trimmed(text)) {
    if (!is_space(c)) {
      line += c;
    } else if (line.back() != ' ') {
      line += ' ';
    }
  }
  return line;
}

size_t count_occurrences(std::string_view text, std::string_view part) {
  size_t count = 0;
  if (part.empty()) return 0;
  for (size_t at = text.find(part); at != std::string_view::npos; at = text.find(part, at + part.size())) ++count;
  return count;
}

std::string_view first_words(std::string_view text, size_t bytes) {
  if (text.size() <= bytes) return text;
  size_t end = bytes;
  while (end > 0 && !is_space(text[end])) --end;
  if (end > 0) return text.substr(0, end);
  while (bytes > 0 && (static_cast<unsigned char>(text[bytes]) & 0xC0) == 0x80) --bytes;
  return text.substr(0, bytes);
}

}  // namespace cepe
