// Values as text: Python's str(), repr() and json.dumps().
#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "text/jinja/value.h"
#include "text/utf8.h"

namespace cepe::jinja {
namespace {

std::string float_text(double d) {
  std::string text = fmt::format("{}", d);
  if (text.find_first_of(".einf") == std::string::npos) text += ".0";
  return text;
}

// As Python's str.isprintable().
bool is_printable(char32_t c) {
  if (c == ' ') return true;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP: return false;
    default: return true;
  }
}

std::string string_repr(std::string_view text) {
  const bool single = text.find('\'') == std::string_view::npos || text.find('"') != std::string_view::npos;
  const char quote = single ? '\'' : '"';
  std::string out(1, quote);
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = code_point_at(text, at);
    const auto number = static_cast<uint32_t>(c.value);
    if (number == '\\' || number == static_cast<unsigned char>(quote)) {
      out += '\\';
      out += static_cast<char>(number);
    } else if (number == '\n' || number == '\r' || number == '\t') {
      out += number == '\n' ? "\\n" : number == '\r' ? "\\r" : "\\t";
    } else if (is_printable(c.value)) {
      out += text.substr(at, c.size);
    } else {
      out += number < 0x100     ? fmt::format("\\x{:02x}", number)
             : number < 0x10000 ? fmt::format("\\u{:04x}", number)
                                : fmt::format("\\U{:08x}", number);
    }
    at += c.size;
  }
  return out + quote;
}

std::string list_repr(const Value& value) {
  const bool tuple = value.sequence() == Sequence::tuple;
  require(tuple || value.sequence() == Sequence::list, "{} as text is not supported (| list gives its elements)",
          value.sequence() == Sequence::range  ? "a range"
          : value.sequence() == Sequence::view ? "a view of a mapping"
                                               : "a generator");
  std::string out(1, tuple ? '(' : '[');
  for (size_t i = 0; i < value.list().size(); ++i) {
    if (i > 0) out += ", ";
    out += to_repr(value.list()[i]);
    require_text_size(out.size());
  }
  if (tuple && value.list().size() == 1) out += ',';
  return out + (tuple ? ')' : ']');
}

std::string map_repr(const Map& map) {
  std::string out = "{";
  for (size_t i = 0; i < map.size(); ++i) {
    if (i > 0) out += ", ";
    out += string_repr(map[i].first) + ": " + to_repr(map[i].second);
    require_text_size(out.size());
  }
  return out + "}";
}

}  // namespace

std::string to_text(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined: return "";
    case Kind::kNone: return "None";
    case Kind::kBool: return value.boolean() ? "True" : "False";
    case Kind::kInt: return std::to_string(value.integer());
    case Kind::kFloat: return float_text(value.number());
    case Kind::kString: return value.string();
    case Kind::kList: return list_repr(value);
    case Kind::kMap: return map_repr(value.map());
    default: fail("{} as text is not supported", kind_name(value.kind()));
  }
}

std::string to_repr(const Value& value) {
  if (value.is(Kind::kUndefined)) return "Undefined";
  return value.is(Kind::kString) ? string_repr(value.string()) : to_text(value);
}

namespace {

void append_unicode_escape(char32_t c, std::string& out) {
  if (c >= 0x10000) {
    const char32_t rest = c - 0x10000;
    out += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + static_cast<uint32_t>(rest >> 10),
                       0xDC00 + static_cast<uint32_t>(rest & 0x3FF));
  } else {
    out += fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
  }
}

std::string json_string(std::string_view text, bool ensure_ascii) {
  std::string out = "\"";
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = code_point_at(text, at);
    switch (c.value) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      case '\f': out += "\\f"; break;
      case '\b': out += "\\b"; break;
      default:
        if (c.value < 0x20 || (ensure_ascii && c.value > 0x7E)) {
          append_unicode_escape(c.value, out);
        } else {
          out += text.substr(at, c.size);
        }
    }
    at += c.size;
  }
  return out + "\"";
}

std::string json_number(double d) {
  if (std::isnan(d)) return "NaN";
  if (std::isinf(d)) return d < 0 ? "-Infinity" : "Infinity";
  return float_text(d);
}

void append_json(const Value& value, const JsonStyle& style, int level, std::string& out) {
  const auto break_line = [&](int depth) {
    if (!style.indent) return;
    out += '\n';
    for (int i = 0; i < depth; ++i) out += *style.indent;
  };
  const bool is_map = value.is(Kind::kMap);
  if (!is_map && !value.is(Kind::kList)) {
    switch (value.kind()) {
      case Kind::kNone: out += "null"; return;
      case Kind::kBool: out += value.boolean() ? "true" : "false"; return;
      case Kind::kInt: out += to_text(value); return;
      case Kind::kFloat: out += json_number(value.number()); return;
      case Kind::kString: out += json_string(value.string(), style.ensure_ascii); return;
      default: fail("{} cannot be written as JSON", kind_name(value.kind()));
    }
  }
  require(is_map || value.is_sequence(Sequence::list) || value.is_sequence(Sequence::tuple),
          "a range, view or generator cannot be written as JSON");
  Map sorted;
  if (is_map && style.sort_keys) {
    sorted = value.map();
    std::sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  }
  const Map* entries = !is_map ? nullptr : style.sort_keys ? &sorted : &value.map();
  const size_t count = is_map ? entries->size() : value.list().size();
  out += is_map ? '{' : '[';
  for (size_t i = 0; i < count; ++i) {
    require_text_size(out.size());
    if (i > 0) out += style.comma;
    break_line(level + 1);
    if (is_map) out += json_string((*entries)[i].first, style.ensure_ascii) + style.colon;
    append_json(is_map ? (*entries)[i].second : value.list()[i], style, level + 1, out);
  }
  if (count > 0) break_line(level);
  out += is_map ? '}' : ']';
}

}  // namespace

std::string to_json(const Value& value, const JsonStyle& style) {
  std::string out;
  append_json(value, style, 0, out);
  return out;
}

}  // namespace cepe::jinja
