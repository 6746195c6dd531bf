#include "text/jinja/builtins.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <memory>

#include "base/error.h"
#include "text/jinja/arguments.h"
#include "text/jinja/string.h"

namespace cepe::jinja {
namespace {

template <size_t N>
bool one_of(std::string_view name, const std::array<std::string_view, N>& names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

constexpr std::array<std::string_view, 18> kPlainTests = {
    "boolean", "callable", "defined", "even", "false",    "float",  "integer", "iterable",  "lower",
    "mapping", "none",     "number",  "odd",  "sequence", "string", "true",    "undefined", "upper"};
constexpr std::array<std::string_view, 10> kComparingTests = {"divisibleby", "eq", "ge",     "gt", "in",
                                                              "le",          "lt", "sameas", "ne", "equalto"};
constexpr std::array<std::string_view, 7> kFunctions = {
    "cycler", "dict", "joiner", "namespace", "range", "raise_exception", "strftime_now"};

// Jinja's other names of the comparisons.
std::string_view plain_test_name(std::string_view name) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 9> kOthers = {{{"equalto", "eq"},
                                                                                     {"==", "eq"},
                                                                                     {"!=", "ne"},
                                                                                     {"greaterthan", "gt"},
                                                                                     {">", "gt"},
                                                                                     {">=", "ge"},
                                                                                     {"lessthan", "lt"},
                                                                                     {"<", "lt"},
                                                                                     {"<=", "le"}}};
  for (const auto& [other, plain] : kOthers) {
    if (name == other) return plain;
  }
  return name;
}

Value raise(const Arguments& arguments) {
  const auto bound = bind(arguments, {"message"});
  fail("{}", to_text(needed(bound[0], "message")));
}

void set_entry(Map& entries, const std::string& name, const Value& value) {
  const auto same =
      std::find_if(entries.begin(), entries.end(), [&](const auto& entry) { return entry.first == name; });
  if (same != entries.end()) {
    same->second = value;
  } else {
    entries.emplace_back(name, value);
  }
}

// dict(mapping or pairs, name=value...)
Map dict(const Arguments& arguments) {
  require(arguments.positional.size() <= 1, "dict takes one mapping, and named values");
  Map out;
  if (!arguments.positional.empty()) {
    const Value& from = arguments.positional[0];
    if (from.is(Kind::kMap)) {
      out = from.map();
    } else {
      for (const Value& item : elements(from)) {
        const List pair = elements(item);
        require(pair.size() == 2 && pair[0].is(Kind::kString), "dict needs pairs of a string and a value");
        set_entry(out, pair[0].string(), pair[1]);
      }
    }
  }
  for (const auto& [name, value] : arguments.named) set_entry(out, name, value);
  return out;
}

Value new_namespace(const Arguments& arguments) {
  auto out = std::make_shared<Namespace>();
  for (const auto& [name, value] : dict(arguments)) {
    require(!value.is(Kind::kNamespace), "a namespace inside a namespace is not supported");
    require(name.empty() || name[0] != '_', "the attribute \"{}\" is not supported", name);
    out->entries[name] = value;
  }
  return Value(std::move(out));
}

Value range(const Arguments& arguments) {
  require(arguments.named.empty() && !arguments.positional.empty(), "range takes one to three integers");
  const auto bound = bind(arguments, {"start", "stop", "step"});
  constexpr int64_t kMost = 100000;  // as in Jinja's sandbox
  const auto integer = [](const Value& v) { return integer_argument(v, "an argument of range"); };
  const int64_t start = bound[1] ? integer(*bound[0]) : 0, stop = integer(bound[1] ? *bound[1] : *bound[0]);
  const int64_t step = bound[2] ? integer(*bound[2]) : 1;
  require(step != 0, "range's step is zero");
  List out;
  for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
    require(static_cast<int64_t>(out.size()) < kMost, "range gives more than {} elements", kMost);
    out.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return Value(std::move(out), Sequence::range);
}

Value strftime_now(const Arguments& arguments) {
  const auto bound = bind(arguments, {"format"});
  const std::string& format = string_argument(needed(bound[0], "format"), "the format of a date");
  if (format.empty()) return "";
  require(format.size() <= 256, "the format of a date is longer than 256 bytes");
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  localtime_r(&now, &parts);
  std::array<char, 8192> out;
  return std::string(out.data(), std::strftime(out.data(), out.size(), format.c_str(), &parts));
}

// An object whose next() goes through the values again and again.
Value cycler(const Arguments& arguments) {
  require(arguments.named.empty() && !arguments.positional.empty(), "cycler needs values");
  auto object = std::make_shared<Namespace>();
  object->settable = false;
  const List items = arguments.positional;
  const std::weak_ptr<Namespace> self = object;  // which holds these functions
  const auto at = std::make_shared<size_t>(0);
  const auto move_to = [items, at, self](size_t place) {
    *at = place % items.size();
    if (const auto cycle = self.lock()) cycle->entries["current"] = items[*at];
  };
  object->entries["current"] = items[0];
  object->entries["next"] = Function{"next", [items, at, move_to](const Arguments&) {
                                       const Value current = items[*at];
                                       move_to(*at + 1);
                                       return current;
                                     }};
  object->entries["reset"] = Function{"reset", [move_to](const Arguments&) -> Value {
                                        move_to(0);
                                        return None{};
                                      }};
  return Value(std::move(object));
}

// A function that gives nothing at its first call, then the separator.
Value joiner(const Arguments& arguments) {
  const auto bound = bind(arguments, {"sep"});
  const Value separator = bound[0].value_or(Value(", "));
  return Function{"joiner", [separator, used = std::make_shared<bool>(false)](const Arguments&) {
                    return std::exchange(*used, true) ? separator : Value("");
                  }};
}

bool is_iterable(const Value& v) {
  return v.is(Kind::kString) || v.is(Kind::kList) || v.is(Kind::kMap) || v.is(Kind::kUndefined);
}

bool is_sequence(const Value& v) {
  return is_iterable(v) && !v.is_sequence(Sequence::view) && !v.is_sequence(Sequence::generator);
}

int64_t remainder_of(const Value& value, int64_t divisor) {
  require(divisor != 0, "a test divides by zero");
  const int64_t number = integer_argument(value, "the subject of this test");
  return divisor == -1 ? 0 : number % divisor;
}

// Whether Python has one object for both: certain of a few kinds alone.
bool is_same_object(const Value& a, const Value& b) {
  if (a.kind() != b.kind()) return false;
  require(a.is(Kind::kNone) || a.is(Kind::kBool), "the test \"sameas\" of {} is not supported", kind_name(a.kind()));
  return equal(a, b);
}

bool is_kind(std::string_view name, const Value& value) {
  if (name == "none") return value.is(Kind::kNone);
  if (name == "string") return value.is(Kind::kString);
  if (name == "mapping") return value.is(Kind::kMap);
  if (name == "iterable") return is_iterable(value);
  if (name == "sequence") return is_sequence(value);
  if (name == "number") return value.is_number();
  if (name == "integer") return value.is(Kind::kInt);
  if (name == "float") return value.is(Kind::kFloat);
  if (name == "boolean") return value.is(Kind::kBool);
  if (name == "true") return value.is(Kind::kBool) && value.boolean();
  if (name == "false") return value.is(Kind::kBool) && !value.boolean();
  if (name == "callable") return value.is(Kind::kFunction) || (value.is(Kind::kNamespace) && value.find("()"));
  if (name == "odd") return remainder_of(value, 2) != 0;
  if (name == "even") return remainder_of(value, 2) == 0;
  return consists_of(name, to_text(value));  // lower, upper
}

}  // namespace

int test_operands(std::string_view name) {
  if (one_of(name, kPlainTests)) return 0;
  return one_of(plain_test_name(name), kComparingTests) ? 1 : -1;
}

bool apply_test(std::string_view name, const Value& value, const std::vector<Value>& operands) {
  if (name == "defined") return !value.is(Kind::kUndefined);
  if (name == "undefined") return value.is(Kind::kUndefined);
  if (operands.empty()) return is_kind(name, value);
  const Value& other = operands[0];
  name = plain_test_name(name);
  if (name == "divisibleby") return remainder_of(value, integer_argument(other, "a divisor")) == 0;
  if (name == "eq") return equal(value, other);
  if (name == "ne") return !equal(value, other);
  if (name == "in") return contains(other, value);
  if (name == "sameas") return is_same_object(value, other);
  if (name == "lt") return less(value, other);
  if (name == "gt") return less(other, value);
  if (name == "le") return !less(other, value);
  return !less(value, other);  // ge
}

bool is_function(std::string_view name) { return one_of(name, kFunctions); }

Value call_function(std::string_view name, const Arguments& arguments) {
  if (name == "raise_exception") return raise(arguments);
  if (name == "namespace") return new_namespace(arguments);
  if (name == "dict") return dict(arguments);
  if (name == "range") return range(arguments);
  if (name == "cycler") return cycler(arguments);
  if (name == "joiner") return joiner(arguments);
  return strftime_now(arguments);
}

}  // namespace cepe::jinja
