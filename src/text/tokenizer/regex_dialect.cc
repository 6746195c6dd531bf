// From Oniguruma's dialect (its Ruby syntax) to PCRE2's. Both know the constructs that tokenizer files use; this
// walk passes on what means the same, spells out what does not, and refuses the rest.
#include <algorithm>
#include <array>
#include <vector>

#include "base/error.h"
#include "text/tokenizer/regex.h"

namespace cepe {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

class Translator {
 public:
  Translator(std::string_view pattern, const std::string& where) : in_(pattern), where_(where) {}

  std::string run() {
    // An option at the very start holds for the whole pattern in both dialects; elsewhere their reach differs.
    if (in_.starts_with("(?i)")) take(4), caseless_.back() = true;
    while (at_ < in_.size()) item();
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(std::string_view construct) const {
    fail("{}: the regular expression {} uses {}, which is not supported", where_, in_, construct);
  }
  char peek(size_t ahead = 0) const { return at_ + ahead < in_.size() ? in_[at_ + ahead] : '\0'; }
  void take(size_t count) {
    out_ += in_.substr(at_, count);
    at_ += count;
  }

  void item() {
    switch (peek()) {
      case '\\': return escape(false);
      case '[': return character_class();
      case '(': return open_group();
      case ')':
        if (caseless_.size() > 1) caseless_.pop_back();
        return take(1);
      case '{': return interval();
      default: return take(1);
    }
  }

  void open_group() {
    static constexpr std::array<std::string_view, 7> kOpenings = {"(?i:", "(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>"};
    if (peek(1) == '*') refuse("\"(*\"");
    if (peek(1) != '?') {
      caseless_.push_back(caseless_.back());
      return take(1);
    }
    for (const std::string_view opening : kOpenings) {
      if (in_.substr(at_).starts_with(opening)) {
        caseless_.push_back(caseless_.back() || opening == "(?i:");
        return take(opening.size());
      }
    }
    refuse(fmt::format("the group \"{}\"", in_.substr(at_, 4)));
  }

  // {n}, {n,}, {n,m}, {,m}; any other brace stands for itself.
  void interval() {
    size_t end = at_ + 1;
    while (end < in_.size() && (is_digit(in_[end]) || in_[end] == ',')) ++end;
    const std::string_view body = in_.substr(at_ + 1, end - at_ - 1);
    const bool closed = end < in_.size() && in_[end] == '}';
    if (!closed || body.empty() || body == "," || std::count(body.begin(), body.end(), ',') > 1) {
      out_ += "\\{";
      ++at_;
      return;
    }
    out_ += body.front() == ',' ? "{0" : "{";
    out_ += body;
    out_ += '}';
    at_ = end + 1;
    // Oniguruma reads x{2}+ as (x{2})+ and x{2}? as (x{2})?, PCRE2 as possessive and lazy.
    if (peek() == '+' || (peek() == '?' && body.find(',') == std::string_view::npos)) {
      refuse(fmt::format("\"{}\" after an interval", peek()));
    }
  }

  void character_class() {
    take(1);
    if (peek() == '^') take(1);
    if (peek() == ']') refuse("a character class that begins with \"]\"");
    while (at_ < in_.size() && peek() != ']') {
      if (peek() == '[') refuse("a class inside a character class");
      if (peek() == '&' && peek(1) == '&') refuse("the class intersection \"&&\"");
      if (peek() == '\\') {
        escape(true);
      } else {
        take(1);
      }
    }
    if (at_ >= in_.size()) refuse("a character class without an end");
    take(1);
  }

  void replace(size_t count, std::string_view text) {
    out_ += text;
    at_ += count;
  }

  void escape(bool in_class) {
    const char c = peek(1);
    switch (c) {
      // PCRE2's \s also holds U+180E. (\w is left out: the two libraries count different numbers and marks in.)
      case 's': return replace(2, "\\p{White_Space}");
      case 'S': return replace(2, "\\P{White_Space}");
      case 'd': return replace(2, "\\p{Nd}");
      case 'D': return replace(2, "\\P{Nd}");
      case 'v': return replace(2, "\\x0B");
      case 'p':
      case 'P': return property();
      case 'x': return hexadecimal();
      case 'u': return unicode();
      case 'r':
      case 'n':
      case 't':
      case 'f':
      case 'a':
      case 'e': return take(2);
      case 'A':
      case 'z':
      case 'Z':
        if (in_class) break;
        return take(2);
      default:
        if (c > ' ' && c < 0x7F && !is_letter(c) && !is_digit(c)) return take(2);
        if (c == ' ') return replace(2, " ");
    }
    refuse(fmt::format("the escape \"\\{}\"", c));
  }

  void property() {
    static constexpr std::array<std::string_view, 38> kCategories = {
        "L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc", "Me", "N",  "Nd", "Nl",
        "No", "P",  "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S",  "Sm", "Sc", "Sk",
        "So", "Z",  "Zs", "Zl", "Zp", "C",  "Cc", "Cf", "Co", "Cn", "Cs", "Lu"};
    static constexpr std::array<std::string_view, 11> kScripts = {"Han",    "Hiragana", "Katakana",  "Hangul",
                                                                  "Latin",  "Cyrillic", "Greek",     "Arabic",
                                                                  "Hebrew", "Thai",     "Devanagari"};
    const size_t end = in_.find('}', at_);
    if (peek(2) != '{' || end == std::string_view::npos) refuse("a property without braces");
    std::string_view name = in_.substr(at_ + 3, end - at_ - 3);
    bool negated = peek(1) == 'P';
    if (name.starts_with('^')) {
      negated = !negated;
      name.remove_prefix(1);
    }
    const bool category = std::find(kCategories.begin(), kCategories.end(), name) != kCategories.end();
    const bool script = std::find(kScripts.begin(), kScripts.end(), name) != kScripts.end();
    if (!category && !script) refuse(fmt::format("the property \"{}\"", name));
    if (caseless_.back() && (name == "Lu" || name == "Ll" || name == "Lt")) {
      refuse(fmt::format("the property \"{}\" where letter case is ignored", name));
    }
    // A script's bare name means its Script_Extensions in PCRE2.
    out_ += fmt::format("\\{}{{{}{}}}", negated ? 'P' : 'p', script ? "sc:" : "", name);
    at_ = end + 1;
  }

  void hexadecimal() {
    if (peek(2) == '{') {
      const size_t end = in_.find('}', at_);
      if (end == std::string_view::npos || end == at_ + 3) refuse("an escape \"\\x{\" without an end");
      for (size_t k = at_ + 3; k < end; ++k) {
        if (!is_hex(in_[k])) refuse(fmt::format("the escape \"{}\"", in_.substr(at_, end + 1 - at_)));
      }
      return take(end + 1 - at_);
    }
    // Two digits above 7F name a byte there and a code point here.
    if (!is_hex(peek(2)) || !is_hex(peek(3)) || peek(2) >= '8') refuse("a byte escape \"\\x\"");
    take(4);
  }

  void unicode() {
    for (size_t k = 2; k < 6; ++k) {
      if (!is_hex(peek(k))) refuse("an escape \"\\u\" without four digits");
    }
    replace(6, fmt::format("\\x{{{}}}", in_.substr(at_ + 2, 4)));
  }

  std::string_view in_;
  const std::string& where_;
  size_t at_ = 0;
  std::string out_;
  std::vector<bool> caseless_ = {false};  // for each open group
};

}  // namespace

std::string pcre2_pattern(std::string_view oniguruma, const std::string& where) {
  return Translator(oniguruma, where).run();
}

}  // namespace cepe
