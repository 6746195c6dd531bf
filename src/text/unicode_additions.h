// Characters younger than the Unicode tables of the regular expression library.
//
// Debian's PCRE2 knows Unicode 14, the reference tokenizer Unicode 16: what came between (rare ideographs and
// scripts, new emoji) would be cut differently. Every younger character therefore stands in a pattern's sight as
// an older one of the same general category, script group (Han or not) and UTF-8 length. With a newer PCRE2 this
// changes nothing.
#pragma once

#include <string>
#include <string_view>

namespace cepe {

// Valid UTF-8 `text`, or a copy in `storage` with the young characters replaced; offsets are the same in both.
std::string_view with_stand_ins(std::string_view text, std::string& storage);

// Digits and numbers of Unicode 15 to 17 (Rust's char::is_numeric, which the reference's Digits uses, knows 17).
bool is_young_number(char32_t c);

}  // namespace cepe
