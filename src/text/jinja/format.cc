#include "text/jinja/format.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "base/error.h"
#include "text/utf8.h"

namespace cepe::jinja {
namespace {

constexpr int64_t kMaxWidth = 10000;

// [[fill]align][sign][#][0][width][,][.precision][type] of Python's format().
struct Spec {
  std::string fill = " ";
  char align = 0;  // '<', '>', '^', '='; 0: the value's own
  char sign = '-';
  bool alternative = false, thousands = false;
  int64_t width = 0;
  std::optional<int64_t> precision;
  char type = 0;
};

int64_t digits(std::string_view text, size_t& at) {
  int64_t value = 0;
  for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at) {
    value = value * 10 + (text[at] - '0');
    require(value <= kMaxWidth, "a width or precision of more than {} is not supported", kMaxWidth);
  }
  return value;
}

std::string with_thousands(const std::string& number) {
  const size_t whole = std::min(number.find_first_not_of("0123456789"), number.size());
  std::string out;
  for (size_t i = 0; i < whole; ++i) {
    if (i > 0 && (whole - i) % 3 == 0) out += ',';
    out += number[i];
  }
  return out + number.substr(whole);
}

std::string float_digits(double value, const Spec& spec) {
  const int precision = static_cast<int>(spec.precision.value_or(6));
  switch (spec.type) {
    case 0: require(!spec.precision, "a precision without a type is not supported"); return to_text(Value(value));
    case 'e': return fmt::format("{:.{}e}", value, precision);
    case 'E': return fmt::format("{:.{}E}", value, precision);
    case 'f': return fmt::format("{:.{}f}", value, precision);
    case 'F': return fmt::format("{:.{}F}", value, precision);
    case 'g': return fmt::format("{:.{}g}", value, precision);
    case 'G': return fmt::format("{:.{}G}", value, precision);
    case '%': return fmt::format("{:.{}f}%", value * 100, precision);
    default: fail("the format type \"{}\" of a float is not supported", spec.type);
  }
}

std::string integer_digits(uint64_t value, const Spec& spec) {
  switch (spec.type) {
    case 0:
    case 'd': return fmt::format("{}", value);
    case 'x': return spec.alternative ? fmt::format("0x{:x}", value) : fmt::format("{:x}", value);
    case 'X': return spec.alternative ? fmt::format("0X{:X}", value) : fmt::format("{:X}", value);
    case 'o': return spec.alternative ? fmt::format("0o{:o}", value) : fmt::format("{:o}", value);
    case 'b': return spec.alternative ? fmt::format("0b{:b}", value) : fmt::format("{:b}", value);
    default: fail("the format type \"{}\" of an integer is not supported", spec.type);
  }
}

std::string format_number(const Value& value, const Spec& spec) {
  constexpr std::string_view kFloatTypes = "eEfFgG%";
  const bool real = value.is(Kind::kFloat) || kFloatTypes.find(spec.type) != std::string_view::npos;
  const bool negative = real ? std::signbit(value.number()) : value.integer() < 0;
  std::string body;
  if (real) {
    body = float_digits(std::fabs(value.number()), spec);
  } else {
    const auto bits = static_cast<uint64_t>(value.integer());
    require(!spec.precision, "a precision of an integer is not supported");
    body = integer_digits(negative ? 0 - bits : bits, spec);
  }
  if (spec.thousands) body = with_thousands(body);
  const std::string sign = negative ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign);
  if (spec.align == '=') {
    const auto used = static_cast<int64_t>(sign.size());
    return sign + pad(body, spec.width - used, Align::right, spec.fill);
  }
  const Align align = spec.align == '<' ? Align::left : spec.align == '^' ? Align::middle : Align::right;
  return pad(sign + body, spec.width, align, spec.fill);
}

std::string format_string(const std::string& text, const Spec& spec) {
  require(spec.type == 0 || spec.type == 's', "the format type \"{}\" of a string is not supported", spec.type);
  require(spec.align != '=' && !spec.thousands && spec.sign == '-', "this format of a string is not supported");
  std::string shown = text;
  if (spec.precision && length(Value(text)) > *spec.precision) {
    SliceBounds bounds;
    bounds.stop = *spec.precision;
    shown = slice(Value(text), bounds).string();
  }
  const Align align = spec.align == '>' ? Align::right : spec.align == '^' ? Align::middle : Align::left;
  return pad(shown, spec.width, align, spec.fill);
}

Spec parse_spec(std::string_view text) {
  Spec spec;
  size_t at = 0;
  constexpr std::string_view kAligns = "<>^=";
  const auto is_align = [&](size_t i) { return i < text.size() && kAligns.find(text[i]) != std::string_view::npos; };
  const size_t first = text.empty() ? 0 : code_point_at(text, 0).size;
  if (is_align(first)) {
    spec.fill = text.substr(0, first);
    spec.align = text[first];
    at = first + 1;
  } else if (is_align(0)) {
    spec.align = text[at++];
  }
  if (at < text.size() && (text[at] == '+' || text[at] == '-' || text[at] == ' ')) spec.sign = text[at++];
  if (at < text.size() && text[at] == '#') spec.alternative = true, ++at;
  if (at < text.size() && text[at] == '0') {
    ++at;
    if (spec.align == 0) spec.align = '=', spec.fill = "0";
  }
  spec.width = digits(text, at);
  if (at < text.size() && text[at] == ',') spec.thousands = true, ++at;
  if (at < text.size() && text[at] == '.') {
    const size_t begin = ++at;
    spec.precision = digits(text, at);
    require(at > begin, "the format \"{}\" has no precision after \".\"", text);
  }
  if (at < text.size()) spec.type = text[at++];
  require(at == text.size(), "the format \"{}\" is not supported", text);
  return spec;
}

// format(value, spec)
std::string format_value(const Value& value, std::string_view spec) {
  if (spec.empty()) return to_text(value);
  if (value.is_number()) return format_number(value, parse_spec(spec));
  Spec parsed = parse_spec(spec);
  if (parsed.fill == "0" && parsed.align == '=') parsed.align = '<';  // of a string, "0" only fills
  require(value.is(Kind::kString), "the format \"{}\" of {} is not supported", spec, kind_name(value.kind()));
  return format_string(value.string(), parsed);
}

// The places of "text % values", one after another.
class PercentFormatter {
 public:
  PercentFormatter(std::string_view text, const Value& values) : text_(text), values_(values) {
    if (values.is_sequence(Sequence::tuple)) {
      rest_ = values.list();
    } else {
      rest_ = {values};
    }
  }

  std::string run() {
    std::string out;
    bool named = false;
    while (at_ < text_.size()) {
      const size_t place = std::min(text_.find('%', at_), text_.size());
      out += text_.substr(at_, place - at_);
      at_ = place + 1;
      if (place == text_.size()) break;
      if (at_ < text_.size() && text_[at_] == '%') {
        out += '%';
        ++at_;
        continue;
      }
      named = named || (at_ < text_.size() && text_[at_] == '(');
      out += one_place();
      require_text_size(out.size());
    }
    const bool mapping = values_.is(Kind::kMap);
    require(named || mapping || used_ == rest_.size(), "\"%\" of a string leaves {} values over", rest_.size() - used_);
    return out;
  }

 private:
  const Value& next_value() {
    require(used_ < rest_.size(), "\"%\" of a string has too few values");
    return rest_[used_++];
  }

  int64_t number_or_star() {
    if (at_ < text_.size() && text_[at_] == '*') {
      ++at_;
      const Value& value = next_value();
      require(value.is_integral() && value.integer() >= 0 && value.integer() <= kMaxWidth,
              "a width of \"%\" must be an integer from 0 to {}", kMaxWidth);
      return value.integer();
    }
    return digits(text_, at_);
  }

  std::string one_place() {
    std::optional<Value> value;
    if (at_ < text_.size() && text_[at_] == '(') {
      const size_t end = text_.find(')', at_);
      require(end != std::string_view::npos, "a name in \"%(\" has no end");
      require(values_.is(Kind::kMap), "\"%(name)\" needs a mapping, found {}", kind_name(values_.kind()));
      const std::string name(text_.substr(at_ + 1, end - at_ - 1));
      const Value* found = values_.find(name);
      require(found != nullptr, "the mapping of \"%\" has no \"{}\"", name);
      value = *found;
      at_ = end + 1;
    }
    Spec spec;
    spec.align = '>';
    for (; at_ < text_.size() && std::string_view("-+ 0#").find(text_[at_]) != std::string_view::npos; ++at_) {
      if (text_[at_] == '-') spec.align = '<', spec.fill = " ";
      if (text_[at_] == '0' && spec.align == '>') spec.align = '=', spec.fill = "0";
      if (text_[at_] == '+' || (text_[at_] == ' ' && spec.sign != '+')) spec.sign = text_[at_];
      if (text_[at_] == '#') spec.alternative = true;
    }
    spec.width = number_or_star();
    if (at_ < text_.size() && text_[at_] == '.') {
      ++at_;
      spec.precision = number_or_star();
    }
    require(at_ < text_.size(), "\"%\" of a string has a place without a type");
    spec.type = text_[at_++];
    return shown(value ? *value : next_value(), spec);
  }

  static std::string shown(const Value& value, Spec spec) {
    if (value.is(Kind::kUndefined) && spec.type != 's') fail("{}", value.undefined().what);
    if (spec.type == 's' || spec.type == 'r') {
      const std::string text = spec.type == 's' ? to_text(value) : to_repr(value);
      spec.type = 's';
      spec.sign = '-';
      if (spec.align == '=') spec.align = '>', spec.fill = " ";
      return format_string(text, spec);
    }
    constexpr std::string_view kTypes = "diuxXoeEfFgG";
    require(kTypes.find(spec.type) != std::string_view::npos, "the place \"%{}\" is not supported", spec.type);
    require(value.is_number(), "the place \"%{}\" needs a number, found {}", spec.type, kind_name(value.kind()));
    const bool whole = std::string_view("diu").find(spec.type) != std::string_view::npos;
    if (!whole) return format_number(value, spec);
    spec.type = 'd';
    if (!value.is(Kind::kFloat)) return format_number(value, spec);
    require(std::fabs(value.number()) < 9e18, "\"%d\" of {} is not supported", to_text(value));
    return format_number(Value(static_cast<int64_t>(value.number())), spec);
  }

  std::string_view text_;
  const Value& values_;
  List rest_;
  size_t at_ = 0, used_ = 0;
};

// What "{name.part[key]}" names.
Value field_value(std::string_view field, const Arguments& arguments, size_t& automatic) {
  const size_t end = std::min(field.find_first_of(".["), field.size());
  const std::string name(field.substr(0, end));
  size_t index = 0;
  Value value;
  if (name.empty() || name.find_first_not_of("0123456789") == std::string::npos) {
    size_t at = 0;
    index = name.empty() ? automatic++ : static_cast<size_t>(digits(name, at));
    require(index < arguments.positional.size(), "format has no value for the place {}", index);
    value = arguments.positional[index];
  } else {
    const auto found = std::find_if(arguments.named.begin(), arguments.named.end(),
                                    [&](const auto& entry) { return entry.first == name; });
    require(found != arguments.named.end(), "format has no value called \"{}\"", name);
    value = found->second;
  }
  for (size_t at = end; at < field.size();) {
    require(field[at] == '[', "an attribute in the place \"{{{}}}\" is not supported", field);
    const size_t close = field.find(']', at);
    require(close != std::string_view::npos, "the place \"{{{}}}\" has no end", field);
    const std::string key(field.substr(at + 1, close - at - 1));
    size_t digit = 0;
    const bool number = !key.empty() && key.find_first_not_of("0123456789") == std::string::npos;
    value = subscript(value, number ? Value(digits(key, digit)) : Value(key));
    require(!value.is(Kind::kUndefined), "the place \"{{{}}}\" names nothing", field);
    at = close + 1;
  }
  return value;
}

}  // namespace

std::string percent_format(std::string_view text, const Value& value) { return PercentFormatter(text, value).run(); }

std::string brace_format(std::string_view text, const Arguments& arguments) {
  std::string out;
  size_t automatic = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t brace = std::min(text.find_first_of("{}", at), text.size());
    out += text.substr(at, brace - at);
    at = brace + 1;
    if (brace == text.size()) break;
    if (at < text.size() && text[at] == text[brace]) {
      out += text[at++];
      continue;
    }
    const size_t end = text.find_first_of("{}", at);
    require(text[brace] == '{' && end != std::string_view::npos && text[end] == '}',
            "the text of format has a \"{}\" that does not fit", text[brace]);
    const std::string_view place = text.substr(at, end - at);
    const size_t colon = std::min(place.find(':'), place.size());
    std::string_view field = place.substr(0, colon);
    const size_t mark = field.find('!');
    Value value = field_value(field.substr(0, mark), arguments, automatic);
    if (mark != std::string_view::npos) {
      const std::string_view conversion = field.substr(mark + 1);
      require(conversion == "s" || conversion == "r", "the conversion \"!{}\" is not supported", conversion);
      value = conversion == "s" ? to_text(value) : to_repr(value);
    }
    out += format_value(value, colon < place.size() ? place.substr(colon + 1) : std::string_view());
    require_text_size(out.size());
    at = end + 1;
  }
  return out;
}

std::string pad(std::string_view text, int64_t width, Align align, std::string_view fill) {
  require_text_size(static_cast<size_t>(std::max<int64_t>(width, 0)));
  const int64_t missing = std::max<int64_t>(width - length(Value(std::string(text))), 0);
  const int64_t odd = align == Align::center ? missing & width & 1 : 0;
  const int64_t left = align == Align::left ? 0 : align == Align::right ? missing : missing / 2 + odd;
  std::string out;
  for (int64_t i = 0; i < left; ++i) out += fill;
  out += text;
  for (int64_t i = left; i < missing; ++i) out += fill;
  return out;
}

}  // namespace cepe::jinja
