// Python's string methods on UTF-8, as far as chat templates use them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cepe::jinja {

enum class Sides { kLeft, kRight, kBoth };

// Without `characters`: white space. With them: any of these code points.
std::string_view strip(std::string_view text, Sides sides, std::optional<std::string_view> characters = {});
// At most `most` splits from the left (split, split_at_space) or the right; all of them when negative.
std::vector<std::string> split(std::string_view text, std::string_view separator, int64_t most);
std::vector<std::string> split_from_right(std::string_view text, std::string_view separator, int64_t most);
std::vector<std::string> split_at_space(std::string_view text, int64_t most);
std::vector<std::string> split_lines(std::string_view text, bool keep_ends);
// At most `most` replacements from the left; all of them when negative.
std::string replace(std::string_view text, std::string_view old, std::string_view by, int64_t most = -1);

// Letter by letter. Error for the few characters whose other case is several characters or depends on its place.
std::string lower(std::string_view text);
std::string upper(std::string_view text);
std::string capitalize(std::string_view text);  // first letter upper, the others lower
std::string title(std::string_view text);       // so each word: str.title(), where letters make up words

// str.isdigit() and so on: `name` without "is". Error for a character of which only Python's tables know.
bool consists_of(std::string_view name, std::string_view text);

}  // namespace cepe::jinja
