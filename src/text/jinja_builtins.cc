#include "text/jinja_builtins.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <initializer_list>
#include <optional>

#include "base/error.h"
#include "text/jinja_string.h"

namespace cepe::jinja {
namespace {

template <size_t N>
bool one_of(std::string_view name, const std::array<std::string_view, N>& names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

constexpr std::array<std::string_view, 20> kFilters = {
    "capitalize", "count", "d",      "default",    "first",   "items",  "join",       "last",   "length", "list",
    "lower",      "map",   "reject", "rejectattr", "replace", "select", "selectattr", "string", "tojson", "trim"};
constexpr std::array<std::string_view, 13> kPlainTests = {"boolean", "callable", "defined",  "even",    "false",
                                                          "float",   "integer",  "iterable", "mapping", "none",
                                                          "number",  "odd",      "sequence"};
constexpr std::array<std::string_view, 3> kMorePlainTests = {"string", "true", "undefined"};
constexpr std::array<std::string_view, 9> kComparingTests = {"divisibleby", "eq", "equalto", "ge", "gt",
                                                             "in",          "le", "lt",      "ne"};
constexpr std::array<std::string_view, 4> kFunctions = {"namespace", "raise_exception", "range", "strftime_now"};
constexpr std::array<std::string_view, 4> kForeignGlobals = {"cycler", "dict", "joiner", "lipsum"};
constexpr std::array<std::string_view, 4> kMapMethods = {"get", "items", "keys", "values"};
constexpr std::array<std::string_view, 7> kOtherMapMethods = {"clear",   "copy",       "fromkeys", "pop",
                                                              "popitem", "setdefault", "update"};
constexpr std::array<std::string_view, 12> kStringMethods = {"strip",      "lstrip",   "rstrip", "split",
                                                             "startswith", "endswith", "lower",  "upper",
                                                             "capitalize", "replace",  "join",   "find"};
// Python's other methods of strings and lists.
constexpr std::array<std::string_view, 37> kOtherMethods = {
    "append",    "casefold", "center",       "clear",     "copy",      "count",       "encode",       "expandtabs",
    "extend",    "format",   "format_map",   "index",     "insert",    "isalnum",     "isalpha",      "isascii",
    "isdecimal", "isdigit",  "isidentifier", "islower",   "isnumeric", "isprintable", "isspace",      "istitle",
    "isupper",   "ljust",    "maketrans",    "partition", "pop",       "remove",      "removeprefix", "removesuffix",
    "reverse",   "rfind",    "rindex",       "sort",      "splitlines"};

// Positional and named arguments in the order of `names`, absent ones empty.
std::vector<std::optional<Value>> bind(const Arguments& arguments, std::initializer_list<std::string_view> names) {
  require(arguments.positional.size() <= names.size(), "takes at most {} arguments, found {}", names.size(),
          arguments.positional.size());
  std::vector<std::optional<Value>> out(names.size());
  std::copy(arguments.positional.begin(), arguments.positional.end(), out.begin());
  for (const auto& [name, value] : arguments.named) {
    const auto found = std::find(names.begin(), names.end(), name);
    require(found != names.end(), "the argument \"{}\" is not supported", name);
    auto& slot = out[static_cast<size_t>(found - names.begin())];
    require(!slot, "the argument \"{}\" is given twice", name);
    slot = value;
  }
  return out;
}

const Value& needed(const std::optional<Value>& argument, std::string_view name) {
  require(argument.has_value(), "the argument \"{}\" is missing", name);
  return *argument;
}

const std::string& string_argument(const Value& value, std::string_view what) {
  require(value.is(Kind::kString), "{} must be a string, found {}", what, kind_name(value.kind()));
  return value.string();
}

int64_t integer_argument(const Value& value, std::string_view what) {
  require(value.is_integral(), "{} must be an integer, found {}", what, kind_name(value.kind()));
  return value.integer();
}

bool given(const std::optional<Value>& argument) { return argument && !argument->is(Kind::kNone); }

Value to_json_filter(const Value& value, const Arguments& arguments) {
  const auto bound = bind(arguments, {"ensure_ascii", "indent"});
  JsonStyle style;
  if (bound[0]) style.ensure_ascii = bound[0]->truthy();
  if (given(bound[1])) {
    const int64_t indent = integer_argument(*bound[1], "tojson's indent");
    require(indent <= 32, "an indent of {} in tojson is not supported", indent);
    style.indent = static_cast<int>(std::max<int64_t>(indent, 0));
  }
  return to_json(value, style);
}

Value default_filter(const Value& value, const Arguments& arguments) {
  const auto bound = bind(arguments, {"default_value", "boolean"});
  const bool replace = value.is(Kind::kUndefined) || (bound[1] && bound[1]->truthy() && !value.truthy());
  return replace ? bound[0].value_or(Value("")) : value;
}

std::string join(const Value& items, const std::string& separator) {
  std::string out;
  bool first = true;
  for (const Value& item : elements(items)) {
    if (!first) out += separator;
    first = false;
    require_text_size(out.size());
    out += to_text(item);
  }
  return out;
}

Value map_items(const Value& value) {
  List out;
  if (value.is(Kind::kUndefined)) return out;
  require(value.is(Kind::kMap), "items needs a mapping, found {}", kind_name(value.kind()));
  for (const auto& [key, item] : value.map()) out.emplace_back(List{Value(key), item});
  return out;
}

bool holds(const std::string& test, const Value& value, std::vector<Value> operands) {
  const int expected = test_operands(test);
  require(expected >= 0, "the test \"{}\" is not supported", test);
  require(static_cast<int>(operands.size()) == expected, "the test \"{}\" takes {} values, found {}", test, expected,
          operands.size());
  return apply_test(test, value, operands);
}

Value attribute_of(const Value& item, const Value& name) {
  const std::string& text = string_argument(name, "the name of an attribute");
  require(text.find('.') == std::string::npos, "the attribute path \"{}\" is not supported", text);
  return subscript(item, name);
}

// select, reject, selectattr and rejectattr: the elements (or those whose attribute) a test holds for.
Value select_filter(std::string_view filter, const Value& value, const Arguments& arguments) {
  require(arguments.named.empty(), "{} takes no named arguments", filter);
  const bool by_attribute = filter.size() > 6;
  const bool wanted = filter[0] == 's';
  std::vector<Value> rest = arguments.positional;
  require(!by_attribute || !rest.empty(), "{} needs the name of an attribute", filter);
  const Value name = by_attribute ? rest.front() : Value();
  if (by_attribute) rest.erase(rest.begin());
  std::string test;
  if (!rest.empty()) {
    test = string_argument(rest.front(), "the name of a test");
    rest.erase(rest.begin());
  }
  List out;
  for (const Value& item : elements(value)) {
    const Value subject = by_attribute ? attribute_of(item, name) : item;
    if ((test.empty() ? subject.truthy() : holds(test, subject, rest)) == wanted) out.push_back(item);
  }
  return out;
}

Value map_filter(const Value& value, const Arguments& arguments) {
  require(arguments.positional.empty(), "map is supported with attribute=... alone");
  const auto bound = bind(arguments, {"attribute"});
  List out;
  for (const Value& item : elements(value)) out.push_back(attribute_of(item, needed(bound[0], "attribute")));
  return out;
}

Value replace_all(const std::string& text, const Arguments& arguments) {
  const auto bound = bind(arguments, {"old", "new"});
  return replace(text, string_argument(needed(bound[0], "old"), "what is replaced"),
                 string_argument(needed(bound[1], "new"), "what replaces it"));
}

Value strip_call(const std::string& text, const Arguments& arguments, Sides sides) {
  const auto bound = bind(arguments, {"chars"});
  if (!given(bound[0])) return std::string(strip(text, sides));
  return std::string(strip(text, sides, string_argument(*bound[0], "the characters to strip")));
}

Value raise(const Arguments& arguments) {
  const auto bound = bind(arguments, {"message"});
  fail("{}", to_text(needed(bound[0], "message")));
}

Value new_namespace(const Arguments& arguments) {
  require(arguments.positional.empty(), "namespace takes named arguments alone");
  const Value out = Value::new_namespace();
  for (const auto& [name, value] : arguments.named) {
    require(!value.is(Kind::kNamespace), "a namespace inside a namespace is not supported");
    require(name[0] != '_', "the attribute \"{}\" is not supported", name);
    out.name_space()[name] = value;
  }
  return out;
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
  return out;
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

Value call_map_method(std::string_view name, const Value& object, const Arguments& arguments) {
  if (name == "get") {
    const auto bound = bind(arguments, {"key", "default"});
    const Value& key = needed(bound[0], "key");
    const Value* found = key.is(Kind::kString) ? object.find(key.string()) : nullptr;
    return found ? *found : bound[1].value_or(Value(None{}));
  }
  bind(arguments, {});
  if (name == "items") return map_items(object);
  if (name == "keys") return elements(object);
  List values;
  for (const auto& [key, item] : object.map()) values.push_back(item);
  return values;
}

// True when the text begins (or ends) with the argument, or with one of them where it is a tuple.
bool has_affix(const std::string& text, const Arguments& arguments, bool at_end) {
  const auto bound = bind(arguments, {"affix"});
  const Value& affix = needed(bound[0], "affix");
  const auto matches = [&](const Value& v) {
    const std::string& s = string_argument(v, "a prefix or suffix");
    return at_end ? text.ends_with(s) : text.starts_with(s);
  };
  if (affix.is(Kind::kList)) return std::any_of(affix.list().begin(), affix.list().end(), matches);
  return matches(affix);
}

Value split_call(const std::string& text, const Arguments& arguments) {
  const auto bound = bind(arguments, {"sep", "maxsplit"});
  const int64_t most = bound[1] ? integer_argument(*bound[1], "the number of splits") : -1;
  List out;
  if (given(bound[0])) {
    for (auto& part : split(text, string_argument(*bound[0], "a separator"), most)) out.emplace_back(std::move(part));
  } else {
    for (auto& part : split_at_space(text, most)) out.emplace_back(std::move(part));
  }
  return out;
}

Value call_string_method(std::string_view name, const std::string& text, const Arguments& arguments) {
  if (name == "strip") return strip_call(text, arguments, Sides::kBoth);
  if (name == "lstrip") return strip_call(text, arguments, Sides::kLeft);
  if (name == "rstrip") return strip_call(text, arguments, Sides::kRight);
  if (name == "split") return split_call(text, arguments);
  if (name == "startswith") return has_affix(text, arguments, false);
  if (name == "endswith") return has_affix(text, arguments, true);
  if (name == "replace") return replace_all(text, arguments);
  if (name == "join") {
    const auto bound = bind(arguments, {"iterable"});
    for (const Value& item : elements(needed(bound[0], "iterable"))) string_argument(item, "each part of join");
    return join(*bound[0], text);
  }
  if (name == "find") {
    const auto bound = bind(arguments, {"sub"});
    const size_t at = text.find(string_argument(needed(bound[0], "sub"), "what is looked for"));
    return at == std::string::npos ? Value(int64_t{-1}) : Value(length(Value(text.substr(0, at))));
  }
  bind(arguments, {});
  if (name == "lower") return lower(text);
  if (name == "upper") return upper(text);
  return capitalize(text);
}

bool is_iterable(const Value& v) {
  return v.is(Kind::kString) || v.is(Kind::kList) || v.is(Kind::kMap) || v.is(Kind::kUndefined);
}

int64_t remainder_of(const Value& value, int64_t divisor) {
  require(divisor != 0, "a test divides by zero");
  const int64_t number = integer_argument(value, "the subject of this test");
  return divisor == -1 ? 0 : number % divisor;
}

}  // namespace

bool is_filter(std::string_view name) { return one_of(name, kFilters) || name == "upper"; }

Value apply_filter(std::string_view name, const Value& value, const Arguments& arguments) {
  if (name == "tojson") return to_json_filter(value, arguments);
  if (name == "default" || name == "d") return default_filter(value, arguments);
  if (name == "trim") return strip_call(to_text(value), arguments, Sides::kBoth);
  if (name == "replace") return replace_all(to_text(value), arguments);
  if (name == "map") return map_filter(value, arguments);
  if (name.starts_with("select") || name.starts_with("reject")) return select_filter(name, value, arguments);
  if (name == "join") {
    const auto bound = bind(arguments, {"d"});
    return join(value, bound[0] ? to_text(*bound[0]) : "");
  }
  bind(arguments, {});
  if (name == "length" || name == "count") return length(value);
  if (name == "items") return map_items(value);
  if (name == "list") return elements(value);
  if (name == "string") return to_text(value);
  if (name == "lower") return lower(to_text(value));
  if (name == "upper") return upper(to_text(value));
  if (name == "capitalize") return capitalize(to_text(value));
  const List items = elements(value);  // first, last
  if (items.empty()) return Undefined{fmt::format("{} of nothing is undefined", name)};
  return name == "first" ? items.front() : items.back();
}

int test_operands(std::string_view name) {
  if (one_of(name, kPlainTests) || one_of(name, kMorePlainTests)) return 0;
  return one_of(name, kComparingTests) ? 1 : -1;
}

bool apply_test(std::string_view name, const Value& value, const std::vector<Value>& operands) {
  if (name == "defined") return !value.is(Kind::kUndefined);
  if (name == "undefined") return value.is(Kind::kUndefined);
  if (name == "none") return value.is(Kind::kNone);
  if (name == "string") return value.is(Kind::kString);
  if (name == "mapping") return value.is(Kind::kMap);
  if (name == "iterable" || name == "sequence") return is_iterable(value);
  if (name == "number") return value.is_number();
  if (name == "integer") return value.is(Kind::kInt);
  if (name == "float") return value.is(Kind::kFloat);
  if (name == "boolean") return value.is(Kind::kBool);
  if (name == "true") return value.is(Kind::kBool) && value.boolean();
  if (name == "false") return value.is(Kind::kBool) && !value.boolean();
  if (name == "callable") return value.is(Kind::kFunction);
  if (name == "odd") return remainder_of(value, 2) != 0;
  if (name == "even") return remainder_of(value, 2) == 0;
  const Value& other = operands.at(0);
  if (name == "divisibleby") return remainder_of(value, integer_argument(other, "a divisor")) == 0;
  if (name == "eq" || name == "equalto") return equal(value, other);
  if (name == "ne") return !equal(value, other);
  if (name == "in") return contains(other, value);
  if (name == "lt") return less(value, other);
  if (name == "gt") return less(other, value);
  if (name == "le") return !less(other, value);
  return !less(value, other);  // ge
}

bool is_function(std::string_view name) { return one_of(name, kFunctions); }

Value call_function(std::string_view name, const Arguments& arguments) {
  if (name == "raise_exception") return raise(arguments);
  if (name == "namespace") return new_namespace(arguments);
  if (name == "range") return range(arguments);
  return strftime_now(arguments);
}

bool is_foreign_global(std::string_view name) { return one_of(name, kForeignGlobals); }

bool is_method(std::string_view name) { return one_of(name, kStringMethods) || one_of(name, kMapMethods); }

Value call_method(std::string_view name, const Value& object, const Arguments& arguments) {
  if (object.is(Kind::kUndefined)) fail("{}", object.undefined().what);
  if (object.is(Kind::kString) && one_of(name, kStringMethods)) {
    return call_string_method(name, object.string(), arguments);
  }
  if (object.is(Kind::kMap) && one_of(name, kMapMethods)) return call_map_method(name, object, arguments);
  fail("{} has no method \"{}\"", kind_name(object.kind()), name);
}

bool names_method(const Value& value, std::string_view name) {
  switch (value.kind()) {
    case Kind::kMap: return one_of(name, kMapMethods) || one_of(name, kOtherMapMethods);
    case Kind::kString:
    case Kind::kList: return one_of(name, kStringMethods) || one_of(name, kOtherMethods);
    default: return false;
  }
}

}  // namespace cepe::jinja
