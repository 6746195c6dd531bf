// A template's source as tokens: text between the tags, and what stands inside them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace cepe::jinja {

struct Token {
  enum class Kind {
    kText,
    kBlockBegin,
    kBlockEnd,
    kOutputBegin,
    kOutputEnd,
    kName,
    kString,
    kInteger,
    kFloat,
    kOperator,
    kEnd
  };
  Kind kind;
  std::string text;  // of a string: its value, escapes resolved
  int line;          // from 1

  bool is(Kind k, std::string_view t) const { return kind == k && text == t; }
};
using TokenKind = Token::Kind;

// Splits as Jinja does with trim_blocks and lstrip_blocks on, which is how chat templates are read: the line break
// after a block or comment goes, and so does white space between the start of a line and a block or comment; '-'
// inside a tag strips all white space on that side, '+' keeps it. The source's own final line break goes too.
// Comments give no token; the last token is kEnd. Throws Error naming the line.
std::vector<Token> tokenize(std::string_view source);

// White space as Python's str.strip() and \s see it.
bool is_python_space(char32_t c);
std::string_view strip_left(std::string_view text);
std::string_view strip_right(std::string_view text);

}  // namespace cepe::jinja
