// The filters of lists and mappings, and the table of all filters.
#include <algorithm>
#include <charconv>
#include <map>
#include <numeric>
#include <set>
#include <utility>

#include "base/error.h"
#include "text/jinja/arguments.h"
#include "text/jinja/arithmetic.h"
#include "text/jinja/builtins.h"
#include "text/jinja/scalar_filters.h"
#include "text/jinja/string.h"

namespace cepe::jinja {
namespace {

using Bound = std::vector<std::optional<Value>>;

Value generator(List items) { return Value(std::move(items), Sequence::generator); }

// The element or attribute that a path names: "a.b", "items.0".
Value attribute_of(const Value& item, const Value& path) {
  if (path.is(Kind::kInt)) return subscript(item, path);
  Value value = item;
  for (const std::string& part : split(string_argument(path, "the name of an attribute"), ".", -1)) {
    int64_t number = 0;
    const auto parsed = std::from_chars(part.data(), part.data() + part.size(), number);
    const bool is_number = !part.empty() && parsed.ec == std::errc() && parsed.ptr == part.data() + part.size();
    value = subscript(value, is_number && part[0] != '-' ? Value(number) : Value(part));
  }
  return value;
}

// What sort, unique, min and max compare: the item or its attribute, in lower case.
Value key_of(const Value& item, const std::optional<Value>& attribute, bool case_sensitive) {
  const Value value = given(attribute) ? attribute_of(item, *attribute) : item;
  return case_sensitive || !value.is(Kind::kString) ? value : Value(lower(value.string()));
}

// Of several attributes, with commas between: a list of keys.
Value keys_of(const Value& item, const std::optional<Value>& attributes, bool case_sensitive) {
  if (!given(attributes) || !attributes->is(Kind::kString)) return key_of(item, attributes, case_sensitive);
  List keys;
  for (const std::string& name : split(attributes->string(), ",", -1)) {
    keys.push_back(key_of(item, Value(name), case_sensitive));
  }
  return keys;
}

// The items in the order of their keys; equal ones stay as they are.
List sorted(const List& items, const List& keys, bool reverse) {
  std::vector<size_t> order(items.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return reverse ? less(keys[b], keys[a]) : less(keys[a], keys[b]); });
  List out;
  for (const size_t i : order) out.push_back(items[i]);
  return out;
}

Value sort_filter(const Value& value, const Arguments& arguments) {
  const Bound bound = bind(arguments, {"reverse", "case_sensitive", "attribute"});
  const List items = elements(value);
  List keys;
  for (const Value& item : items) keys.push_back(keys_of(item, bound[2], is_true(bound[1])));
  return sorted(items, keys, is_true(bound[0]));
}

Value dictsort_filter(const Value& value, const Arguments& arguments) {
  const Bound bound = bind(arguments, {"case_sensitive", "by", "reverse"});
  require(value.is(Kind::kMap), "dictsort needs a mapping, found {}", kind_name(value.kind()));
  const std::string by = bound[1] ? string_argument(*bound[1], "dictsort's \"by\"") : "key";
  require(by == "key" || by == "value", "dictsort sorts by \"key\" or \"value\", found \"{}\"", by);
  List items, keys;
  for (const auto& [name, item] : value.map()) {
    items.emplace_back(List{Value(name), item}, Sequence::tuple);
    keys.push_back(key_of(by == "key" ? Value(name) : item, std::nullopt, is_true(bound[0])));
  }
  return sorted(items, keys, is_true(bound[2]));
}

// What Python's sets tell apart, as text: 1, 1.0 and true are one.
std::string identity_of(const Value& value) {
  if (value.is_number()) return "n" + to_text(Value(value.number()));
  if (value.is(Kind::kString)) return "s" + value.string();
  require(value.is(Kind::kNone) || value.is_sequence(Sequence::tuple), "unique of {} is not supported",
          kind_name(value.kind()));
  return "o" + to_repr(value);
}

Value unique_filter(const Value& value, const Arguments& arguments) {
  const Bound bound = bind(arguments, {"case_sensitive", "attribute"});
  std::set<std::string> seen;
  List out;
  for (const Value& item : elements(value)) {
    if (seen.insert(identity_of(key_of(item, bound[1], is_true(bound[0])))).second) out.push_back(item);
  }
  return generator(std::move(out));
}

Value extreme(const Value& value, const Arguments& arguments, bool greatest) {
  const Bound bound = bind(arguments, {"case_sensitive", "attribute"});
  std::optional<Value> best, best_key;
  for (const Value& item : elements(value)) {
    const Value key = key_of(item, bound[1], is_true(bound[0]));
    if (best && !(greatest ? less(*best_key, key) : less(key, *best_key))) continue;
    best = item;
    best_key = key;
  }
  return best ? *best : Value(Undefined{"the least or greatest of nothing is undefined"});
}
Value min_filter(const Value& value, const Arguments& arguments) { return extreme(value, arguments, false); }
Value max_filter(const Value& value, const Arguments& arguments) { return extreme(value, arguments, true); }

Value sum_filter(const Value& value, const Arguments& arguments) {
  const Bound bound = bind(arguments, {"attribute", "start"});
  Value sum = bound[1].value_or(Value(int64_t{0}));
  for (const Value& item : elements(value)) {
    const Value number = given(bound[0]) ? attribute_of(item, *bound[0]) : item;
    require(number.is_number() && sum.is_number(), "the sum of {} is not supported", kind_name(number.kind()));
    sum = arithmetic("+", sum, number);
  }
  return sum;
}

int64_t positive(const std::optional<Value>& argument, std::string_view name) {
  const int64_t count = integer_argument(needed(argument, name), name);
  require(count > 0 && count <= static_cast<int64_t>(kMaxElements), "{} of {} is not supported", name, count);
  return count;
}

Value batch_filter(const Value& value, const Arguments& arguments) {
  const Bound bound = bind(arguments, {"linecount", "fill_with"});
  const auto count = static_cast<size_t>(positive(bound[0], "linecount"));
  List out, line;
  for (const Value& item : elements(value)) {
    if (line.size() == count) out.emplace_back(std::exchange(line, {}));
    line.push_back(item);
  }
  if (!line.empty()) {
    if (given(bound[1])) line.resize(count, *bound[1]);
    out.emplace_back(std::move(line));
  }
  return generator(std::move(out));
}

Value slice_filter(const Value& value, const Arguments& arguments) {
  const Bound bound = bind(arguments, {"slices", "fill_with"});
  const auto count = static_cast<size_t>(positive(bound[0], "slices"));
  const List items = elements(value);
  const size_t size = items.size() / count, longer = items.size() % count;
  List out;
  for (size_t i = 0, begin = 0; i < count; ++i) {
    const size_t end = begin + size + (i < longer ? 1 : 0);
    List part(items.begin() + static_cast<ptrdiff_t>(begin), items.begin() + static_cast<ptrdiff_t>(end));
    if (given(bound[1]) && i >= longer) part.push_back(*bound[1]);
    out.emplace_back(std::move(part));
    begin = end;
  }
  return generator(std::move(out));
}

Value reverse_filter(const Value& value, const Arguments& arguments) {
  bind(arguments, {});
  List items = elements(value);
  std::reverse(items.begin(), items.end());
  if (!value.is(Kind::kString)) return generator(std::move(items));
  std::string out;
  for (const Value& item : items) out += item.string();
  return out;
}

Value first_filter(const Value& value, const Arguments& arguments) {
  bind(arguments, {});
  if (value.is_sequence(Sequence::generator)) {
    if (value.taken() < value.list().size()) return value.list()[value.taken()++];
    return Undefined{"the first of nothing is undefined"};
  }
  const List items = elements(value);
  return items.empty() ? Value(Undefined{"the first of nothing is undefined"}) : items.front();
}

Value last_filter(const Value& value, const Arguments& arguments) {
  bind(arguments, {});
  require(!value.is_sequence(Sequence::generator), "a generator has no last element (| list gives its elements)");
  const List items = elements(value);
  return items.empty() ? Value(Undefined{"the last of nothing is undefined"}) : items.back();
}

bool holds(const std::string& test, const Value& value, std::vector<Value> operands) {
  const int expected = test_operands(test);
  require(expected >= 0, "the test \"{}\" is not supported", test);
  require(static_cast<int>(operands.size()) == expected, "the test \"{}\" takes {} values, found {}", test, expected,
          operands.size());
  return apply_test(test, value, operands);
}

// select, reject, selectattr and rejectattr: the elements (or those whose attribute) a test holds for.
Value chosen(const Value& value, const Arguments& arguments, bool by_attribute, bool wanted) {
  require(arguments.named.empty(), "the filter takes no named arguments");
  std::vector<Value> rest = arguments.positional;
  require(!by_attribute || !rest.empty(), "the filter needs the name of an attribute");
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
  return generator(std::move(out));
}

Value map_filter(const Value& value, const Arguments& arguments) {
  List out;
  if (arguments.positional.empty()) {
    const Bound bound = bind(arguments, {"attribute", "default"});
    const Value& attribute = needed(bound[0], "attribute");
    for (const Value& item : elements(value)) {
      Value found = attribute_of(item, attribute);
      out.push_back(found.is(Kind::kUndefined) && given(bound[1]) ? *bound[1] : std::move(found));
    }
    return generator(std::move(out));
  }
  const std::string name = string_argument(arguments.positional[0], "the name of a filter");
  require(is_filter(name), "the filter \"{}\" is not supported", name);
  const Arguments rest{{arguments.positional.begin() + 1, arguments.positional.end()}, arguments.named};
  for (const Value& item : elements(value)) out.push_back(apply_filter(name, item, rest));
  return generator(std::move(out));
}

Value join_filter(const Value& value, const Arguments& arguments) {
  const Bound bound = bind(arguments, {"d", "attribute"});
  const std::string separator = bound[0] ? to_text(*bound[0]) : "";
  std::string out;
  bool first = true;
  for (const Value& item : elements(value)) {
    if (!first) out += separator;
    first = false;
    out += to_text(given(bound[1]) ? attribute_of(item, *bound[1]) : item);
    require_text_size(out.size());
  }
  return out;
}

Value items_filter(const Value& value, const Arguments& arguments) {
  bind(arguments, {});
  List out;
  if (value.is(Kind::kUndefined)) return generator(std::move(out));
  require(value.is(Kind::kMap), "items needs a mapping, found {}", kind_name(value.kind()));
  for (const auto& [key, item] : value.map()) out.emplace_back(List{Value(key), item}, Sequence::tuple);
  return generator(std::move(out));
}

using Filter = Value (*)(const Value&, const Arguments&);

// A filter without arguments.
template <auto kFunction>
Value plain(const Value& value, const Arguments& arguments) {
  bind(arguments, {});
  return kFunction(value);
}

const std::map<std::string_view, Filter>& filters() {
  constexpr auto kLower = [](const Value& v) { return lower(to_text(v)); };
  constexpr auto kUpper = [](const Value& v) { return upper(to_text(v)); };
  constexpr auto kCapitalize = [](const Value& v) { return capitalize(to_text(v)); };
  static const std::map<std::string_view, Filter> kFilters = {
      {"abs", abs_filter},
      {"batch", batch_filter},
      {"capitalize", plain<kCapitalize>},
      {"center", center_filter},
      {"count", plain<length>},
      {"d", default_filter},
      {"default", default_filter},
      {"dictsort", dictsort_filter},
      {"first", first_filter},
      {"float", float_filter},
      {"format", format_filter},
      {"indent", indent_filter},
      {"int", int_filter},
      {"items", items_filter},
      {"join", join_filter},
      {"last", last_filter},
      {"length", plain<length>},
      {"list", plain<elements>},
      {"lower", plain<kLower>},
      {"map", map_filter},
      {"max", max_filter},
      {"min", min_filter},
      {"reject", [](const Value& v, const Arguments& a) { return chosen(v, a, false, false); }},
      {"rejectattr", [](const Value& v, const Arguments& a) { return chosen(v, a, true, false); }},
      {"replace", replace_filter},
      {"reverse", reverse_filter},
      {"round", round_filter},
      {"select", [](const Value& v, const Arguments& a) { return chosen(v, a, false, true); }},
      {"selectattr", [](const Value& v, const Arguments& a) { return chosen(v, a, true, true); }},
      {"slice", slice_filter},
      {"sort", sort_filter},
      {"string", plain<to_text>},
      {"sum", sum_filter},
      {"title", title_filter},
      {"tojson", to_json_filter},
      {"trim", trim_filter},
      {"truncate", truncate_filter},
      {"unique", unique_filter},
      {"upper", plain<kUpper>},
  };
  return kFilters;
}

}  // namespace

bool is_filter(std::string_view name) { return filters().contains(name); }

Value apply_filter(std::string_view name, const Value& value, const Arguments& arguments) {
  return filters().at(name)(value, arguments);
}

}  // namespace cepe::jinja
