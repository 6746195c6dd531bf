#include "text/jinja/arithmetic.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "text/jinja/format.h"

namespace cepe::jinja {
namespace {

int64_t floor_divide(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a % b < 0) != (b < 0) ? 1 : 0); }

Value integer_power(int64_t base, int64_t exponent) {
  require(base != 0 || exponent >= 0, "0 cannot be raised to a negative power");
  if (exponent < 0) return std::pow(static_cast<double>(base), static_cast<double>(exponent));
  int64_t result = 1;
  for (bool overflow = false; exponent > 0; exponent >>= 1) {
    if (exponent & 1) overflow = __builtin_mul_overflow(result, base, &result);
    require(!overflow, "the result of \"**\" does not fit into 64 bits");
    if (exponent == 1) break;
    overflow = __builtin_mul_overflow(base, base, &base);
    require(!overflow, "the result of \"**\" does not fit into 64 bits");
  }
  return result;
}

Value integer_arithmetic(const std::string& op, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflow = false;
  if (op == "+") {
    overflow = __builtin_add_overflow(a, b, &result);
  } else if (op == "-") {
    overflow = __builtin_sub_overflow(a, b, &result);
  } else if (op == "*") {
    overflow = __builtin_mul_overflow(a, b, &result);
  } else if (op == "**") {
    return integer_power(a, b);
  } else {
    require(b != 0, "division by zero");
    if (op == "/") return static_cast<double>(a) / static_cast<double>(b);
    if (b == -1) {  // the one quotient that can overflow
      overflow = __builtin_sub_overflow(int64_t{0}, a, &result);
      if (op == "%") return int64_t{0};
    } else {
      result = op == "//" ? floor_divide(a, b) : a - floor_divide(a, b) * b;
    }
  }
  require(!overflow, "the result of \"{}\" does not fit into 64 bits", op);
  return result;
}

Value float_arithmetic(const std::string& op, double a, double b) {
  if (op == "+") return a + b;
  if (op == "-") return a - b;
  if (op == "*") return a * b;
  if (op == "**") {
    require(a != 0 || b >= 0, "0 cannot be raised to a negative power");
    require(a >= 0 || b == std::floor(b), "a root of a negative number is not supported");
    return std::pow(a, b);
  }
  require(b != 0, "division by zero");
  if (op == "/") return a / b;
  if (op == "//") return std::floor(a / b);
  const double rest = std::fmod(a, b);
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

bool is_joinable(const Value& v) { return v.is_sequence(Sequence::list) || v.is_sequence(Sequence::tuple); }

// A text, list or tuple several times.
Value repeat(const Value& value, int64_t times) {
  const auto count = static_cast<size_t>(std::max<int64_t>(times, 0));
  if (value.is(Kind::kString)) {
    const std::string& text = value.string();
    require_text_size(text.empty() || count <= kMaxTextBytes / text.size() ? 0 : kMaxTextBytes + 1);
    std::string out;
    for (size_t i = 0; i < count && !text.empty(); ++i) out += text;
    return out;
  }
  const List& items = value.list();
  require_element_count(items.empty() || count <= kMaxElements / items.size() ? 0 : kMaxElements + 1);
  List out;
  for (size_t i = 0; i < count && !items.empty(); ++i) out.insert(out.end(), items.begin(), items.end());
  return Value(std::move(out), value.sequence());
}

void require_defined(const Value& a, const Value& b) {
  for (const Value* side : {&a, &b}) {
    if (side->is(Kind::kUndefined)) fail("{}", side->undefined().what);
  }
}

}  // namespace

std::string concatenate(const std::string& a, const std::string& b) {
  require_text_size(a.size() + b.size());
  return a + b;
}

Value arithmetic(const std::string& op, const Value& a, const Value& b) {
  if (op == "%" && a.is(Kind::kString)) return percent_format(a.string(), b);
  require_defined(a, b);
  if (a.is_integral() && b.is_integral()) return integer_arithmetic(op, a.integer(), b.integer());
  if (a.is_number() && b.is_number()) return float_arithmetic(op, a.number(), b.number());
  const auto repeats = [](const Value& v) { return v.is(Kind::kString) || is_joinable(v); };
  if (op == "*" && repeats(a) && b.is_integral()) return repeat(a, b.integer());
  if (op == "*" && repeats(b) && a.is_integral()) return repeat(b, a.integer());
  if (op == "+" && a.is(Kind::kString) && b.is(Kind::kString)) return concatenate(a.string(), b.string());
  if (op == "+" && is_joinable(a) && is_joinable(b) && a.sequence() == b.sequence()) {
    require_element_count(a.list().size() + b.list().size());
    List out = a.list();
    out.insert(out.end(), b.list().begin(), b.list().end());
    return Value(std::move(out), a.sequence());
  }
  fail("\"{}\" of {} and {} is not supported", op, kind_name(a.kind()), kind_name(b.kind()));
}

Value negative(const Value& value) {
  return value.is(Kind::kFloat) ? Value(-value.number()) : integer_arithmetic("-", 0, value.integer());
}

bool compare(const std::string& op, const Value& a, const Value& b) {
  if (op == "==") return equal(a, b);
  if (op == "!=") return !equal(a, b);
  if (op == "in") return contains(b, a);
  if (op == "not in") return !contains(b, a);
  require_defined(a, b);
  if (op == "<") return less(a, b);
  if (op == ">") return less(b, a);
  return op == "<=" ? !less(b, a) : !less(a, b);
}

}  // namespace cepe::jinja
