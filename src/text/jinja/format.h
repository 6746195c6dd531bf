// Texts with places for values: Python's "%s" % value and "{}".format(value).
#pragma once

#include <string>
#include <string_view>

#include "text/jinja/value.h"

namespace cepe::jinja {

// text % value: a tuple fills the places one after another, a mapping those that are named, anything else the one
// place.
std::string percent_format(std::string_view text, const Value& value);
// text.format(...).
std::string brace_format(std::string_view text, const Arguments& arguments);

// Of an odd number of fills, center puts the odd one to the left where the width is odd, as str.center() does; middle
// puts it to the right, as "^" in format() does.
enum class Align { left, right, center, middle };
// The text with `fill` (one character) beside it, so that it has at least `width` characters.
std::string pad(std::string_view text, int64_t width, Align align, std::string_view fill = " ");

}  // namespace cepe::jinja
