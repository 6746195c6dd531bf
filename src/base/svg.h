// Text in SVG files.
#pragma once

#include <string>

namespace cepe {

// The text as one line (printable()) with SVG's special characters escaped.
std::string svg_text(const std::string& text);

}  // namespace cepe
