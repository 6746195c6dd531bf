#include "text/jinja_string.h"

#include <utf8proc.h>

#include "base/error.h"
#include "text/jinja_lexer.h"
#include "text/jinja_value.h"
#include "text/utf8.h"

namespace cepe::jinja {
namespace {

bool is_among(char32_t c, std::string_view characters) {
  for (size_t at = 0; at < characters.size();) {
    const CodePoint other = code_point_at(characters, at);
    if (other.value == c) return true;
    at += other.size;
  }
  return false;
}

// Characters whose other case, by Unicode's SpecialCasing, is several characters or depends on what stands beside it.
bool has_special_case(char32_t c) {
  return c == 0xDF || c == 0x130 || c == 0x149 || c == 0x1F0 || c == 0x390 || c == 0x3A3 || c == 0x3B0 || c == 0x587 ||
         (c >= 0x1E96 && c <= 0x1E9E) || (c >= 0x1F50 && c <= 0x1FFC) || (c >= 0xFB00 && c <= 0xFB17);
}

std::string map_case(std::string_view text, utf8proc_int32_t (*convert)(utf8proc_int32_t)) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = code_point_at(text, at);
    require(!has_special_case(c.value), "changing the case of \"{}\" is not supported", text.substr(at, c.size));
    append_utf8(static_cast<char32_t>(convert(static_cast<utf8proc_int32_t>(c.value))), out);
    at += c.size;
  }
  return out;
}

}  // namespace

std::string_view strip(std::string_view text, Sides sides, std::optional<std::string_view> characters) {
  const auto goes = [&](char32_t c) { return characters ? is_among(c, *characters) : is_python_space(c); };
  while (sides != Sides::kRight && !text.empty()) {
    const CodePoint c = code_point_at(text, 0);
    if (!goes(c.value)) break;
    text.remove_prefix(c.size);
  }
  while (sides != Sides::kLeft && !text.empty()) {
    const CodePoint c = code_point_before(text, text.size());
    if (!goes(c.value)) break;
    text.remove_suffix(c.size);
  }
  return text;
}

std::vector<std::string> split(std::string_view text, std::string_view separator, int64_t most) {
  require(!separator.empty(), "the separator of split is empty");
  std::vector<std::string> out;
  while (most < 0 || static_cast<int64_t>(out.size()) < most) {
    const size_t at = text.find(separator);
    if (at == std::string_view::npos) break;
    out.emplace_back(text.substr(0, at));
    require_element_count(out.size());
    text.remove_prefix(at + separator.size());
  }
  out.emplace_back(text);
  return out;
}

std::vector<std::string> split_at_space(std::string_view text, int64_t most) {
  std::vector<std::string> out;
  text = strip(text, Sides::kLeft);
  while (!text.empty()) {
    if (most >= 0 && static_cast<int64_t>(out.size()) >= most) {
      out.emplace_back(text);
      break;
    }
    size_t end = 0;
    while (end < text.size() && !is_python_space(code_point_at(text, end).value)) end += code_point_at(text, end).size;
    out.emplace_back(text.substr(0, end));
    require_element_count(out.size());
    text = strip(text.substr(end), Sides::kLeft);
  }
  return out;
}

std::string replace(std::string_view text, std::string_view old, std::string_view by) {
  require(!old.empty(), "replacing an empty string is not supported");
  std::string out;
  while (true) {
    const size_t at = text.find(old);
    if (at == std::string_view::npos) return out.append(text);
    out.append(text.substr(0, at)).append(by);
    require_text_size(out.size());
    text.remove_prefix(at + old.size());
  }
}

std::string lower(std::string_view text) { return map_case(text, utf8proc_tolower); }
std::string upper(std::string_view text) { return map_case(text, utf8proc_toupper); }

std::string capitalize(std::string_view text) {
  if (text.empty()) return "";
  const size_t first = code_point_at(text, 0).size;
  return map_case(text.substr(0, first), utf8proc_totitle) + lower(text.substr(first));
}

}  // namespace cepe::jinja
