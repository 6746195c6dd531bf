// Characters that the reference tokenizer and the libraries used here know differently, for the age of their Unicode
// tables. Every difference was found by trying each code point (tests/golden/tokenizer/record.py).
//
// Patterns: Debian's PCRE2 knows Unicode 14, the reference Unicode 16. What came between (rare ideographs and
// scripts, new emoji) would be cut differently. Every younger character therefore stands in a pattern's sight as an
// older one of the same general category, script group (Han or not) and UTF-8 length. With a newer PCRE2 this
// changes nothing.
//
// Normal forms: the reference's tables are those of Unicode 9; characters that came later keep their place and form.
#pragma once

#include <string>
#include <string_view>

namespace cepe {

// Valid UTF-8 `text`, or a copy in `storage` with the young characters replaced; offsets are the same in both.
std::string_view with_stand_ins(std::string_view text, std::string& storage);

// General categories Nd, Nl and No of Unicode 17, which Rust's char::is_numeric knows and the reference's Digits uses.
bool is_numeric(char32_t c);

// Whether the reference's normalization leaves this character as it is and moves nothing across it, although newer
// tables give it a decomposition or a combining class.
bool is_inert_in_normal_forms(char32_t c);

}  // namespace cepe
