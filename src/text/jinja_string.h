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
// At most `most` splits from the left; all of them when negative.
std::vector<std::string> split(std::string_view text, std::string_view separator, int64_t most);
std::vector<std::string> split_at_space(std::string_view text, int64_t most);
std::string replace(std::string_view text, std::string_view old, std::string_view by);

// Letter by letter. Error for the few characters whose other case is several characters or depends on its place.
std::string lower(std::string_view text);
std::string upper(std::string_view text);
std::string capitalize(std::string_view text);  // first letter upper, the others lower

}  // namespace cepe::jinja
