#include "text/jinja/string.h"

#include <utf8proc.h>

#include <algorithm>

#include "base/error.h"
#include "text/jinja/lexer.h"
#include "text/jinja/value.h"
#include "text/tokenizer/unicode_additions.h"
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

bool is_letter(char32_t c) {
  const utf8proc_category_t category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
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

std::vector<std::string> split_from_right(std::string_view text, std::string_view separator, int64_t most) {
  require(!separator.empty(), "the separator of rsplit is empty");
  std::vector<std::string> out;
  while (most < 0 || static_cast<int64_t>(out.size()) < most) {
    const size_t at = text.rfind(separator);
    if (at == std::string_view::npos) break;
    out.emplace_back(text.substr(at + separator.size()));
    require_element_count(out.size());
    text = text.substr(0, at);
  }
  out.emplace_back(text);
  std::reverse(out.begin(), out.end());
  return out;
}

std::vector<std::string> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string> out;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = code_point_at(text, at);
    size_t end = at + c.size;
    const bool is_end = (c.value >= 0x0A && c.value <= 0x0D) || (c.value >= 0x1C && c.value <= 0x1E) ||
                        c.value == 0x85 || c.value == 0x2028 || c.value == 0x2029;
    if (is_end) {
      if (c.value == '\r' && end < text.size() && text[end] == '\n') ++end;
      out.emplace_back(text.substr(begin, (keep_ends ? end : at) - begin));
      require_element_count(out.size());
      begin = end;
    }
    at = end;
  }
  if (begin < text.size()) out.emplace_back(text.substr(begin));
  return out;
}

std::string replace(std::string_view text, std::string_view old, std::string_view by, int64_t most) {
  std::string out;
  for (int64_t done = 0; most < 0 || done < most; ++done) {
    // An empty text stands before each character, and at the end.
    const size_t at = old.empty() ? 0 : text.find(old);
    if (at == std::string_view::npos) break;
    const size_t kept = old.empty() && done > 0 ? code_point_at(text, 0).size : at;
    out.append(text.substr(0, kept)).append(by);
    require_text_size(out.size());
    text.remove_prefix(kept + old.size());
    if (old.empty() && text.empty()) break;
  }
  return out.append(text);
}

std::string lower(std::string_view text) { return map_case(text, utf8proc_tolower); }
std::string upper(std::string_view text) { return map_case(text, utf8proc_toupper); }

std::string capitalize(std::string_view text) {
  if (text.empty()) return "";
  const size_t first = code_point_at(text, 0).size;
  return map_case(text.substr(0, first), utf8proc_totitle) + lower(text.substr(first));
}

std::string title(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    size_t end = at;
    while (end < text.size() && is_letter(code_point_at(text, end).value)) end += code_point_at(text, end).size;
    out += capitalize(text.substr(at, end - at));
    if (end < text.size()) out += text.substr(end, code_point_at(text, end).size);
    at = end + (end < text.size() ? code_point_at(text, end).size : 0);
  }
  return out;
}

bool consists_of(std::string_view name, std::string_view text) {
  if (name == "ascii") return std::none_of(text.begin(), text.end(), [](char c) { return (c & 0x80) != 0; });
  if (name == "upper" || name == "lower") {
    const auto is_wanted = name == "upper" ? utf8proc_isupper : utf8proc_islower;
    const auto is_other = name == "upper" ? utf8proc_islower : utf8proc_isupper;
    bool any = false;
    for (size_t at = 0; at < text.size(); at += code_point_at(text, at).size) {
      const auto c = static_cast<utf8proc_int32_t>(code_point_at(text, at).value);
      if (is_other(c) || utf8proc_category(c) == UTF8PROC_CATEGORY_LT) return false;
      any = any || is_wanted(c);
    }
    return any;
  }
  for (size_t at = 0; at < text.size(); at += code_point_at(text, at).size) {
    const char32_t c = code_point_at(text, at).value;
    const bool decimal = utf8proc_category(static_cast<utf8proc_int32_t>(c)) == UTF8PROC_CATEGORY_ND;
    require(name != "digit" || decimal || !is_numeric(c), "isdigit of the number \"{}\" is not supported",
            text.substr(at, code_point_at(text, at).size));
    const bool holds = name == "space"   ? is_python_space(c)
                       : name == "alpha" ? is_letter(c)
                       : name == "alnum" ? is_letter(c) || is_numeric(c)
                                         : decimal;
    if (!holds) return false;
  }
  return !text.empty();
}

}  // namespace cepe::jinja
