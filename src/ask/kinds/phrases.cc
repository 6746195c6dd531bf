#include "ask/kinds/phrases.h"

#include <algorithm>
#include <vector>

namespace cepe {
namespace {

constexpr std::string_view kMonths[] = {"January", "February", "March",     "April",   "May",      "June",
                                        "July",    "August",   "September", "October", "November", "December"};
constexpr std::string_view kSmall[] = {"of", "the", "de", "von", "van", "der", "del",
                                       "la", "le",  "du", "al",  "da",  "di"};
constexpr std::string_view kNumbers[] = {
    "one",    "two",    "three",    "four",     "five",    "six",     "seven",     "eight",    "nine",     "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"};
// Words that begin a sentence and name nothing.
constexpr std::string_view kNoNames[] = {
    "He",       "She",     "It",      "They",   "We",      "You",     "I",     "This",    "That",   "These",
    "Those",    "There",   "His",     "Her",    "Its",     "Their",   "Our",   "In",      "On",     "At",
    "By",       "For",     "From",    "With",   "After",   "When",    "While", "Since",   "During", "Until",
    "Before",   "As",      "If",      "But",    "And",     "Or",      "Other", "Some",    "Many",   "Most",
    "Several",  "Both",    "Each",    "All",    "One",     "Another", "What",  "Who",     "Which",  "Where",
    "Although", "However", "Because", "Then",   "Here",    "Such",    "No",    "Also",    "A",      "An",
    "Early",    "Later",   "First",   "Second", "Another", "Despite", "Under", "Between", "Around", "Today"};

template <size_t n>
bool is_one_of(std::string_view word, const std::string_view (&list)[n]) {
  return std::find(std::begin(list), std::end(list), word) != std::end(list);
}
bool is_digit(char c) { return c >= '0' && c <= '9'; }
// A letter that a word in capitals begins with, also beyond ASCII: C3 80 to C3 9E are capitals of Latin-1.
bool is_capital(std::string_view word) {
  if (word.empty()) return false;
  if (word[0] >= 'A' && word[0] <= 'Z') return true;
  return word.size() > 1 && word[0] == '\xC3' && static_cast<unsigned char>(word[1]) >= 0x80 &&
         static_cast<unsigned char>(word[1]) <= 0x9E;
}
std::string_view word_at(std::string_view text, size_t at) {
  size_t end = at;
  while (end < text.size() && std::string_view(" ,.;:()\"\n").find(text[end]) == std::string_view::npos) ++end;
  return text.substr(at, end - at);
}

size_t year_length(std::string_view text) {
  if (text.size() < 4) return 0;
  for (size_t i = 0; i < 4; ++i) {
    if (!is_digit(text[i])) return 0;
  }
  const bool longer = text.size() > 4 && (is_digit(text[4]) || text[4] == 's');
  return !longer && (text[0] == '1' || text.starts_with("20")) ? 4 : 0;
}
size_t day_length(std::string_view text) {
  const size_t digits = text.size() > 1 && is_digit(text[1]) ? 2 : 1;
  const bool day = !text.empty() && is_digit(text[0]) && (text.size() == digits || !is_digit(text[digits]));
  return day ? digits : 0;
}

}  // namespace

size_t date_length(std::string_view text, bool whole) {
  if (const size_t year = year_length(text); year > 0) return whole ? 0 : year;
  size_t at = 0;
  const size_t first_day = day_length(text);
  if (first_day > 0 && text.substr(first_day).starts_with(' ')) at = first_day + 1;
  const std::string_view month = word_at(text, at);
  if (!is_one_of(month, kMonths)) return 0;
  at += month.size();
  if (!text.substr(at).starts_with(' ')) return 0;
  ++at;
  bool day = first_day > 0;
  if (const size_t length = day_length(text.substr(at));
      !day && length > 0 && text.substr(at + length).starts_with(", ")) {
    day = true;
    at += length + 2;
  }
  const size_t year = year_length(text.substr(at));
  return year == 0 || (whole && !day) ? 0 : at + year;
}

bool begins_with_month(std::string_view text) { return is_one_of(word_at(text, 0), kMonths); }

size_t name_length(std::string_view text, bool commas) {
  size_t end = 0;
  for (size_t at = 0; at < text.size();) {
    const std::string_view word = word_at(text, at);
    const bool small = at > 0 && is_one_of(word, kSmall);
    if (!is_capital(word) && !small && !(at == 0 && word == "the")) break;
    at += word.size();
    if (is_capital(word)) end = at;
    // An initial's stop belongs to the name.
    if (word.size() == 1 && text.substr(at).starts_with(". ")) ++at;
    if (text.substr(at).starts_with(' ')) {
      ++at;
    } else if (commas && text.substr(at).starts_with(", ") && is_capital(word_at(text, at + 2))) {
      at += 2;
    } else {
      break;
    }
  }
  return end;
}

size_t number_length(std::string_view text) {
  size_t at = 0;
  while (at < text.size() && (is_digit(text[at]) || (at > 0 && (text[at] == ',' || text[at] == '.') &&
                                                     at + 1 < text.size() && is_digit(text[at + 1])))) {
    ++at;
  }
  if (at > 0) return at < text.size() && text[at] == ' ' ? at : 0;
  const std::string_view word = word_at(text, 0);
  return is_one_of(word, kNumbers) ? word.size() : 0;
}

Subject subject_kind(std::string_view text) {
  std::vector<std::string_view> words;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find(' ', at), text.size());
    words.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  const bool plain = text.find_first_of(",;:()\"[]\n") == std::string_view::npos;
  if (words.empty() || words.size() > 7 || !plain || is_one_of(words[0], kNoNames)) return Subject::none;
  if (!is_capital(words[0])) return Subject::none;
  const bool article = words[0] == "The";
  const auto names = [](std::string_view word) { return is_capital(word) || is_one_of(word, kSmall); };
  if (std::all_of(words.begin() + (article ? 1 : 0), words.end(), names)) {
    if (words.size() == 1 && article) return Subject::none;
    return article && words.size() == 2 ? Subject::weak : Subject::strong;  // "The School"
  }
  const auto lower = [](std::string_view word) { return word[0] >= 'a' && word[0] <= 'z' && word != "and"; };
  const bool weak = article && words.size() <= 3 && std::all_of(words.begin() + 1, words.end(), lower);
  return weak && words.back() != "former" && words.back() != "latter" && words.back() != "first" ? Subject::weak
                                                                                                 : Subject::none;
}

std::string_view clause(std::string_view text) {
  for (size_t at = 0; at < text.size(); ++at) {
    if (std::string_view(".,;(:").find(text[at]) == std::string_view::npos) continue;
    const bool number = at > 0 && at + 1 < text.size() && is_digit(text[at - 1]) && is_digit(text[at + 1]);
    // "St. Louis", "J. Smith", "U.S.": a stop within a name.
    const std::string_view before = text.substr(0, at);
    const bool initial = text[at] == '.' && !before.empty() && before.back() >= 'A' && before.back() <= 'Z';
    const bool saint = text[at] == '.' && (before.ends_with("St") || before.ends_with("Mt"));
    if (!number && !initial && !saint) return before;
  }
  return text;
}

}  // namespace cepe
