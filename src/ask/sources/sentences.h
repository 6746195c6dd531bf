// Running text cut where sentences and lines end.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace cepe {

// The text as pieces whose concatenation is the text: each a sentence, or the rest of a line, with the white space that
// follows it. A sentence ends at ".", "!" or "?", with or without closing quotes and brackets, before a space and a
// character that is no lower-case letter; not after initials and the usual abbreviations.
std::vector<std::string_view> split_sentences(std::string_view text);

// The text without white space at both ends.
std::string_view trimmed(std::string_view text);
// The text with every run of white space as one space.
std::string on_one_line(std::string_view text);
// How often a text occurs in another, counted without overlap; an empty one never.
size_t count_occurrences(std::string_view text, std::string_view part);
// The text cut behind the last whole word of at most `bytes` bytes; never inside a character.
std::string_view first_words(std::string_view text, size_t bytes);

}  // namespace cepe
