#include "text/jinja/scalar_filters.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <string>
#include <utility>

#include "base/error.h"
#include "text/jinja/arguments.h"
#include "text/jinja/arithmetic.h"
#include "text/jinja/builtins.h"
#include "text/jinja/format.h"
#include "text/jinja/string.h"
#include "text/utf8.h"

namespace cepe::jinja {

Value default_filter(const Value& value, const Arguments& arguments) {
  const auto bound = bind(arguments, {"default_value", "boolean"});
  const bool replace = value.is(Kind::kUndefined) || (is_true(bound[1]) && !value.truthy());
  return replace ? bound[0].value_or(Value("")) : value;
}

Value to_json_filter(const Value& value, const Arguments& arguments) {
  const auto bound = bind(arguments, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ensure_ascii = is_true(bound[0]);
  style.sort_keys = is_true(bound[3]);
  if (given(bound[1])) {
    style.indent = bound[1]->is(Kind::kString) ? bound[1]->string() : "";
    const int64_t spaces = bound[1]->is(Kind::kString) ? 0 : integer_argument(*bound[1], "tojson's indent");
    require(spaces <= 32 && style.indent->size() <= 32, "an indent of more than 32 in tojson is not supported");
    if (spaces > 0) style.indent->assign(static_cast<size_t>(spaces), ' ');
    style.comma = ",";
  }
  if (given(bound[2])) {
    const List separators = elements(*bound[2]);
    require(separators.size() == 2, "tojson's separators are two, found {}", separators.size());
    style.comma = string_argument(separators[0], "a separator of tojson");
    style.colon = string_argument(separators[1], "a separator of tojson");
  }
  return to_json(value, style);
}

// Numbers

Value abs_filter(const Value& value, const Arguments& arguments) {
  bind(arguments, {});
  require(value.is_number(), "abs needs a number, found {}", kind_name(value.kind()));
  if (value.is(Kind::kFloat)) return std::fabs(value.number());
  return value.integer() < 0 ? negative(value) : Value(value.integer());
}

namespace {

// Python's float() of a text.
std::optional<double> to_float(std::string_view text) {
  text = strip(text, Sides::kBoth);
  bool minus = false;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    minus = text[0] == '-';
    text.remove_prefix(1);
  }
  if (text.empty() || text[0] == '-' || text[0] == '+') return std::nullopt;
  double value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size()) return std::nullopt;
  return minus ? -value : value;
}

// Python's int() of a text.
std::optional<int64_t> to_int(std::string_view text, int base) {
  text = strip(text, Sides::kBoth);
  const bool minus = text.starts_with('-');
  if (minus || text.starts_with('+')) text.remove_prefix(1);
  const char letter = base == 16 ? 'x' : base == 8 ? 'o' : base == 2 ? 'b' : ' ';
  if (text.size() > 2 && text[0] == '0' && (text[1] | 0x20) == letter) text.remove_prefix(2);
  if (text.starts_with('-')) return std::nullopt;
  int64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value, base);
  require(parsed.ec != std::errc::result_out_of_range, "the integer {} does not fit into 64 bits", text);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size()) return std::nullopt;
  return minus ? -value : value;
}

}  // namespace

Value int_filter(const Value& value, const Arguments& arguments) {
  const auto bound = bind(arguments, {"default", "base"});
  const int64_t base = integer_or(bound[1], 10, "a base");
  require(base >= 2 && base <= 36, "the base {} of int is not supported", base);
  if (value.is(Kind::kUndefined)) fail("{}", value.undefined().what);
  if (value.is_integral()) return value.integer();
  std::optional<double> real;
  if (value.is(Kind::kFloat)) real = value.number();
  if (value.is(Kind::kString)) {
    if (const auto whole = to_int(value.string(), static_cast<int>(base))) return *whole;
    real = to_float(value.string());
  }
  if (!real || !std::isfinite(*real)) return bound[0].value_or(Value(int64_t{0}));
  require(std::fabs(*real) < 9e18, "the integer {} does not fit into 64 bits", *real);
  return static_cast<int64_t>(*real);
}

Value float_filter(const Value& value, const Arguments& arguments) {
  const auto bound = bind(arguments, {"default"});
  if (value.is(Kind::kUndefined)) fail("{}", value.undefined().what);
  if (value.is_number()) return value.number();
  const auto number = value.is(Kind::kString) ? to_float(value.string()) : std::nullopt;
  return number ? Value(*number) : bound[0].value_or(Value(0.0));
}

Value round_filter(const Value& value, const Arguments& arguments) {
  const auto bound = bind(arguments, {"precision", "method"});
  const int64_t precision = integer_or(bound[0], 0, "a precision");
  const std::string method = bound[1] ? string_argument(*bound[1], "the method of round") : "common";
  require(method == "common" || method == "ceil" || method == "floor", "the method of round is \"{}\"", method);
  require(value.is_number(), "round needs a number, found {}", kind_name(value.kind()));
  require(precision >= 0 && precision <= 100, "round to {} digits is not supported", precision);
  if (method == "common") {
    if (value.is_integral()) return value.integer();
    // The nearest decimal, ties of the exact value to even, as Python's round().
    return std::strtod(fmt::format("{:.{}f}", value.number(), static_cast<int>(precision)).c_str(), nullptr);
  }
  const double scale = std::pow(10.0, static_cast<double>(precision)), scaled = value.number() * scale;
  return (method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale;
}

// Texts

Value trim_filter(const Value& value, const Arguments& arguments) {
  return call_method("strip", Value(to_text(value)), arguments);
}

Value replace_filter(const Value& value, const Arguments& arguments) {
  const auto bound = bind(arguments, {"old", "new", "count"});
  const int64_t most = given(bound[2]) ? integer_argument(*bound[2], "the number of replacements") : -1;
  return replace(to_text(value), to_text(needed(bound[0], "old")), to_text(needed(bound[1], "new")), most);
}

Value indent_filter(const Value& value, const Arguments& arguments) {
  const auto bound = bind(arguments, {"width", "first", "blank"});
  const std::string& text = string_argument(value, "the text of indent");
  std::string space;
  if (bound[0] && bound[0]->is(Kind::kString)) {
    space = bound[0]->string();
  } else {
    space = pad("", integer_or(bound[0], 4, "the width of indent"), Align::left);
  }
  std::string out = is_true(bound[1]) ? space : "";
  bool first = true;
  for (const std::string& line : split_lines(text + "\n", false)) {
    if (!first) out += '\n';
    if (!first && (is_true(bound[2]) || !line.empty())) out += space;
    first = false;
    out += line;
    require_text_size(out.size());
  }
  return out;
}

// Words begin after white space and after "-", brackets and "<".
Value title_filter(const Value& value, const Arguments& arguments) {
  bind(arguments, {});
  const std::string text = to_text(value);
  std::string out, word;
  for (size_t at = 0; at < text.size();) {
    const size_t size = code_point_at(text, at).size;
    const std::string character = text.substr(at, size);
    const bool parts = strip(character, Sides::kBoth, " -({[<").empty() || strip(character, Sides::kBoth).empty();
    if (parts) {
      out += capitalize(std::exchange(word, {})) + character;
    } else {
      word += character;
    }
    at += size;
  }
  return out + capitalize(word);
}

Value truncate_filter(const Value& value, const Arguments& arguments) {
  const auto bound = bind(arguments, {"length", "killwords", "end", "leeway"});
  string_argument(value, "the text of truncate");
  const int64_t size = integer_or(bound[0], 255, "the length of truncate");
  const std::string end = bound[2] ? string_argument(*bound[2], "the end of truncate") : "...";
  const int64_t leeway = given(bound[3]) ? integer_argument(*bound[3], "the leeway of truncate") : 5;
  const int64_t kept = size - length(Value(end));
  require(kept >= 0 && leeway >= 0, "truncate to {} characters leaves no place for \"{}\"", size, end);
  if (length(value) <= size + leeway) return value;
  SliceBounds bounds;
  bounds.stop = kept;
  const std::string begin = slice(value, bounds).string();
  return (is_true(bound[1]) ? begin : split_from_right(begin, " ", 1).front()) + end;
}

Value center_filter(const Value& value, const Arguments& arguments) {
  const auto bound = bind(arguments, {"width"});
  return pad(to_text(value), integer_or(bound[0], 80, "a width"), Align::center);
}

Value format_filter(const Value& value, const Arguments& arguments) {
  require(arguments.positional.empty() || arguments.named.empty(), "format takes positional or named values, not both");
  const Value values = arguments.named.empty() ? Value(arguments.positional, Sequence::tuple) : Value(arguments.named);
  return percent_format(to_text(value), values);
}

}  // namespace cepe::jinja
