#include "text/jinja/lexer.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "text/utf8.h"

namespace cepe::jinja {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

std::string normalize_line_breaks(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out += source[i];
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) {
      const size_t tag = find_tag();
      if (tag == std::string_view::npos) {
        add(TokenKind::kText, std::string(source_.substr(at_)));
        move_to(source_.size());
      } else {
        text_before(tag);
        if (source_[at_ + 1] == '#') {
          comment();
        } else {
          inside_tag();
        }
      }
    }
    add(TokenKind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  template <typename... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) const {
    fail("chat template, line {}: {}", line_, fmt::format(format, std::forward<Args>(args)...));
  }

  bool starts_with(std::string_view prefix) const { return source_.substr(at_).substr(0, prefix.size()) == prefix; }

  size_t find_tag() const {
    for (size_t i = at_; (i = source_.find('{', i)) != std::string_view::npos && i + 1 < source_.size(); ++i) {
      const char c = source_[i + 1];
      if (c == '%' || c == '{' || c == '#') return i;
    }
    return std::string_view::npos;
  }

  void move_to(size_t at) {
    line_ += static_cast<int>(
        std::count(source_.begin() + static_cast<ptrdiff_t>(at_), source_.begin() + static_cast<ptrdiff_t>(at), '\n'));
    at_ = at;
  }

  void add(TokenKind kind, std::string text) {
    if (kind == TokenKind::kText && text.empty()) return;
    tokens_.push_back({kind, std::move(text), line_});
  }

  // The text up to a tag, less the white space that the tag takes away.
  void text_before(size_t tag) {
    std::string_view text = source_.substr(at_, tag - at_);
    const char sign = tag + 2 < source_.size() ? source_[tag + 2] : ' ';
    if (sign == '-') {
      text = strip_right(text);
    } else if (sign != '+' && source_[tag + 1] != '{') {
      const size_t line_break = text.rfind('\n');
      const size_t line_start = line_break == std::string_view::npos ? 0 : line_break + 1;
      if ((line_start > 0 || line_starting_) && strip_left(text.substr(line_start)).empty()) {
        text = text.substr(0, line_start);
      }
    }
    add(TokenKind::kText, std::string(text));
    move_to(tag);
  }

  // Past the end of a tag, and the white space that the end takes away.
  void end_tag(std::string_view end, bool trims_line_break) {
    size_t after = at_ + end.size();
    if (end[0] == '-') {
      const std::string_view rest = source_.substr(after);
      after += rest.size() - strip_left(rest).size();
    } else if (end[0] != '+' && trims_line_break && after < source_.size() && source_[after] == '\n') {
      ++after;
    }
    move_to(after);
    line_starting_ = source_[after - 1] == '\n';
  }

  void skip_sign() {
    if (at_ < source_.size() && (source_[at_] == '-' || source_[at_] == '+')) ++at_;
  }

  void comment() {
    const int begin_line = line_;
    at_ += 2;
    skip_sign();
    const size_t end = source_.find("#}", at_);
    if (end == std::string_view::npos) {
      fail("chat template, line {}: the comment that begins here has no end", begin_line);
    }
    const bool has_sign = end > at_ && (source_[end - 1] == '-' || source_[end - 1] == '+');
    move_to(end - (has_sign ? 1 : 0));
    end_tag(source_.substr(at_, has_sign ? 3 : 2), true);
  }

  void inside_tag() {
    const bool block = source_[at_ + 1] == '%';
    const int begin_line = line_;
    const size_t first = tokens_.size();
    add(block ? TokenKind::kBlockBegin : TokenKind::kOutputBegin, "");
    at_ += 2;
    skip_sign();
    brackets_.clear();
    while (true) {
      skip_space();
      if (at_ >= source_.size()) fail("chat template, line {}: the tag that begins here has no end", begin_line);
      if (brackets_.empty() && ends_here(block)) return;
      expression_token();
      if (block && tokens_.size() == first + 2 && tokens_.back().is(TokenKind::kName, "raw")) {
        tokens_.erase(tokens_.begin() + static_cast<ptrdiff_t>(first), tokens_.end());
        return raw_text(begin_line);
      }
    }
  }

  // After "{% raw": what follows is text up to "{% endraw %}".
  void raw_text(int begin_line) {
    skip_space();
    if (!starts_with("%}") && !starts_with("-%}")) refuse("expected \"%}}\" after \"raw\"");
    end_tag(starts_with("-%}") ? "-%}" : "%}", false);
    for (size_t tag = at_; (tag = source_.find("{%", tag)) != std::string_view::npos; tag += 2) {
      size_t name = tag + 2;
      if (name < source_.size() && (source_[name] == '-' || source_[name] == '+')) ++name;
      const std::string_view rest = strip_left(source_.substr(name));
      if (!rest.starts_with("endraw")) continue;
      const std::string_view end = strip_left(rest.substr(6));
      if (!end.starts_with("%}") && !end.starts_with("-%}") && !end.starts_with("+%}")) continue;
      text_before(tag);
      move_to(source_.size() - end.size());
      return end_tag(end.substr(0, end[0] == '%' ? 2 : 3), true);
    }
    fail("chat template, line {}: this \"raw\" has no end", begin_line);
  }

  bool ends_here(bool block) {
    static constexpr std::array<std::string_view, 3> kBlockEnds = {"%}", "-%}", "+%}"};
    static constexpr std::array<std::string_view, 2> kOutputEnds = {"}}", "-}}"};
    const auto try_end = [&](std::string_view end) {
      if (!starts_with(end)) return false;
      add(block ? TokenKind::kBlockEnd : TokenKind::kOutputEnd, "");
      end_tag(end, block);
      return true;
    };
    return block ? std::any_of(kBlockEnds.begin(), kBlockEnds.end(), try_end)
                 : std::any_of(kOutputEnds.begin(), kOutputEnds.end(), try_end);
  }

  void skip_space() {
    const std::string_view rest = source_.substr(at_);
    move_to(at_ + rest.size() - strip_left(rest).size());
  }

  void expression_token() {
    const char c = source_[at_];
    if (is_name_start(c)) {
      size_t end = at_;
      while (end < source_.size() && (is_name_start(source_[end]) || is_digit(source_[end]))) ++end;
      add(TokenKind::kName, std::string(source_.substr(at_, end - at_)));
      move_to(end);
    } else if (is_digit(c)) {
      number();
    } else if (c == '"' || c == '\'') {
      string_literal();
    } else {
      op();
    }
  }

  // The end of digits that may be parted by single underscores.
  size_t digits_end(size_t i, std::string_view digits) const {
    const auto is_one = [&](size_t k) {
      return k < source_.size() && digits.find(source_[k]) != std::string_view::npos;
    };
    while (is_one(i) || (i < source_.size() && source_[i] == '_' && is_one(i + 1))) ++i;
    return i;
  }

  void number() {
    constexpr std::string_view kDecimal = "0123456789", kHexadecimal = "0123456789abcdefABCDEF";
    const char base = at_ + 1 < source_.size() ? static_cast<char>(source_[at_ + 1] | 0x20) : ' ';
    size_t end = at_;
    if (source_[at_] == '0' && base == 'x') end = digits_end(at_ + 2, kHexadecimal);
    if (source_[at_] == '0' && base == 'o') end = digits_end(at_ + 2, kDecimal.substr(0, 8));
    if (source_[at_] == '0' && base == 'b') end = digits_end(at_ + 2, kDecimal.substr(0, 2));
    TokenKind kind = TokenKind::kInteger;
    if (end <= at_ + 2) {
      const size_t whole = digits_end(at_, kDecimal);
      const bool after_dot = at_ > 0 && source_[at_ - 1] == '.';  // the 1 of "a.1.0" is an index
      end = after_dot ? whole : float_end(whole);
      if (end > whole) kind = TokenKind::kFloat;
    }
    std::string text(source_.substr(at_, end - at_));
    std::erase(text, '_');
    const bool goes_on = end < source_.size() && (is_name_start(source_[end]) || is_digit(source_[end]));
    const bool padded = kind == TokenKind::kInteger && text[0] == '0' && text.find_first_of("123456789") == 1;
    if (goes_on || padded) refuse("\"{}\" is not a number", source_.substr(at_, end + (goes_on ? 1 : 0) - at_));
    add(kind, std::move(text));
    move_to(end);
  }

  // Past the fraction and the exponent that may follow a whole number.
  size_t float_end(size_t end) const {
    constexpr std::string_view kDecimal = "0123456789";
    const auto digit_at = [&](size_t i) { return i < source_.size() && is_digit(source_[i]); };
    if (end < source_.size() && source_[end] == '.' && digit_at(end + 1)) end = digits_end(end + 1, kDecimal);
    if (end + 1 < source_.size() && (source_[end] | 0x20) == 'e') {
      const size_t exponent = end + (source_[end + 1] == '-' || source_[end + 1] == '+' ? 2 : 1);
      if (digit_at(exponent)) end = digits_end(exponent, kDecimal);
    }
    return end;
  }

  void op() {
    static constexpr std::array<std::string_view, 6> kTwo = {"==", "!=", ">=", "<=", "//", "**"};
    static constexpr std::string_view kOne = "+-/*%~[](){}><=.:|,";
    for (const std::string_view two : kTwo) {
      if (starts_with(two)) {
        add(TokenKind::kOperator, std::string(two));
        at_ += 2;
        return;
      }
    }
    const char c = source_[at_];
    if (kOne.find(c) == std::string_view::npos) {
      const size_t size = code_point_at(source_, at_).size;
      refuse("the character \"{}\" is not expected in a tag", source_.substr(at_, size));
    }
    balance(c);
    add(TokenKind::kOperator, std::string(1, c));
    ++at_;
  }

  void balance(char c) {
    if (c == '(' || c == '[' || c == '{') brackets_ += c == '(' ? ')' : c == '[' ? ']' : '}';
    if (c == ')' || c == ']' || c == '}') {
      if (brackets_.empty() || brackets_.back() != c) refuse("\"{}\" closes nothing", c);
      brackets_.pop_back();
    }
  }

  void string_literal() {
    const char quote = source_[at_];
    size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) refuse("the string that begins here has no end");
    add(TokenKind::kString, unescape(source_.substr(at_ + 1, end - at_ - 1)));
    move_to(end + 1);
  }

  // Python's escapes; an unknown one stays as it is written.
  std::string unescape(std::string_view text) const {
    std::string out;
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] != '\\') {
        out += text[i];
        continue;
      }
      const char c = text[++i];
      static constexpr std::string_view kCodes = "abfnrtv\\'\"", kValues = "\a\b\f\n\r\t\v\\'\"";
      if (const size_t known = kCodes.find(c); known != std::string_view::npos) {
        out += kValues[known];
      } else if (c == 'x' || c == 'u' || c == 'U') {
        const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        append_utf8(hexadecimal(text.substr(i + 1), digits), out);
        i += digits;
      } else if (c >= '0' && c <= '7') {
        char32_t value = 0;
        size_t digits = 0;
        for (; digits < 3 && i + digits < text.size() && text[i + digits] >= '0' && text[i + digits] <= '7'; ++digits) {
          value = value * 8 + static_cast<char32_t>(text[i + digits] - '0');
        }
        append_utf8(value, out);
        i += digits - 1;
      } else if (c == 'N' || static_cast<unsigned char>(c) >= 0x80) {
        refuse("the escape \"\\{}\" in a string is not supported", text.substr(i, code_point_at(text, i).size));
      } else if (c != '\n') {
        out += '\\';
        out += c;
      }
    }
    return out;
  }

  char32_t hexadecimal(std::string_view text, size_t digits) const {
    char32_t value = 0;
    for (size_t i = 0; i < digits; ++i) {
      const char c = i < text.size() ? text[i] : ' ';
      const bool letter = (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
      if (!is_digit(c) && !letter) refuse("an escape in a string has too few hexadecimal digits");
      value = value * 16 + static_cast<char32_t>(letter ? (c | 0x20) - 'a' + 10 : c - '0');
      if (value > 0x10FFFF) break;
    }
    if (value > 0x10FFFF || (value >= 0xD800 && value < 0xE000)) refuse("an escape in a string names no character");
    return value;
  }

  std::string_view source_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;  // what came before ended with a line break
  std::string brackets_;       // the closing brackets that the current tag still owes
  std::vector<Token> tokens_;
};

}  // namespace

bool is_python_space(char32_t c) { return (c >= 0x1C && c <= 0x1F) || is_white_space(c); }

std::string_view strip_left(std::string_view text) {
  while (!text.empty()) {
    const CodePoint c = code_point_at(text, 0);
    if (!is_python_space(c.value)) break;
    text.remove_prefix(c.size);
  }
  return text;
}

std::string_view strip_right(std::string_view text) {
  while (!text.empty()) {
    const CodePoint c = code_point_before(text, text.size());
    if (!is_python_space(c.value)) break;
    text.remove_suffix(c.size);
  }
  return text;
}

std::vector<Token> tokenize(std::string_view source) {
  const size_t invalid = find_invalid_utf8(source);
  require(invalid == std::string_view::npos, "chat template: not valid UTF-8 at byte {}", invalid);
  const std::string normalized = normalize_line_breaks(source);
  return Lexer(normalized).run();
}

}  // namespace cepe::jinja
