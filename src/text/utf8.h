// UTF-8: validation, code points, character classes, and bytes that arrive in pieces.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace cepe {

// The byte offset of the first ill-formed sequence (overlong forms, surrogates and values above U+10FFFF are
// ill-formed), or std::string_view::npos when the text is valid UTF-8.
size_t find_invalid_utf8(std::string_view text);

// Throws Error naming the byte offset when the text is not valid UTF-8.
void require_utf8(std::string_view text);

struct CodePoint {
  char32_t value;
  size_t size;  // bytes, 1..4
};
// The code point at `offset` of valid UTF-8 text.
CodePoint code_point_at(std::string_view text, size_t offset);
// The code point that ends just before `offset` (> 0) of valid UTF-8 text.
CodePoint code_point_before(std::string_view text, size_t offset);
void append_utf8(char32_t code_point, std::string& out);

// Valid UTF-8 text in lower case: each code point by Unicode's simple mapping (UnicodeData.txt), whatever its place.
std::string lower_case(std::string_view text);

bool is_white_space(char32_t c);  // Unicode's White_Space property
// Alphabetic, M, Nd, Pc or Join_Control: \w of Unicode's regular expression standard (UTS 18, annex C).
bool is_word_character(char32_t c);

// Joins bytes that arrive in pieces into whole characters. What is ill-formed becomes U+FFFD: one for each maximal
// part, as the Unicode standard recommends (chapter 3, "Substitution of Maximal Subparts"), or one for each byte.
class Utf8Assembler {
 public:
  enum class Replacement { each_part, each_byte };
  explicit Utf8Assembler(Replacement replacement = Replacement::each_part) : replacement_(replacement) {}

  // Appends to `out` the characters that are complete now; the rest waits.
  void push(std::string_view bytes, std::string& out);
  // Ends the text: an unfinished character becomes U+FFFD.
  void finish(std::string& out);

 private:
  void begin(unsigned char byte, std::string& out);
  Replacement replacement_;
  std::string pending_;                     // the first bytes of an unfinished character, at most 3
  int missing_ = 0;                         // continuation bytes still to come
  unsigned char low_ = 0x80, high_ = 0xBF;  // the range allowed for the next one
};

}  // namespace cepe
