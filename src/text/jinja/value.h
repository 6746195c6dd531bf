// The values that a chat template computes with: Python's, as far as the subset needs them.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace cepe::jinja {

class Value;
using List = std::vector<Value>;
using Map = std::vector<std::pair<std::string, Value>>;  // in the order of insertion, as Python's dict
struct Namespace;
struct Arguments;

// A missing name or attribute: false, prints as nothing, has no elements; anything else done to it is an error.
struct Undefined {
  std::string what;  // for that error: "'x' is undefined"
};
struct None {};
// What a template can call: a macro, a function, a method of a loop.
struct Function {
  std::string name;
  std::function<Value(const Arguments&)> call;
};

enum class Kind { kUndefined, kNone, kBool, kInt, kFloat, kString, kList, kMap, kNamespace, kFunction };

// The kinds of Python values that are lists here. A view is what dict.items() gives. A generator is what most filters
// of lists give: it is always true, has no length, and its elements can be gone through once.
enum class Sequence { list, tuple, range, view, generator };

// Copies are cheap: strings, lists and maps are shared and never change. Containers nest at most kMaxDepth deep and
// hold no namespace, so values are trees that can be walked and freed by recursion.
class Value {
 public:
  static constexpr int kMaxDepth = 100;

  Value() : data_(Undefined{"a value is undefined"}) {}
  Value(Undefined undefined) : data_(std::move(undefined)) {}
  Value(None none) : data_(none) {}
  Value(Function function) : data_(std::make_shared<const Function>(std::move(function))) {}
  Value(bool b) : data_(b) {}
  Value(int64_t i) : data_(i) {}
  Value(double d) : data_(d) {}
  Value(std::string s) : data_(std::make_shared<const std::string>(std::move(s))) {}
  Value(const char* s) : Value(std::string(s)) {}
  Value(List items, Sequence sequence = Sequence::list);  // Error when nested too deep
  Value(Map entries);
  Value(std::shared_ptr<Namespace> data) : data_(std::move(data)) {}

  Kind kind() const { return static_cast<Kind>(data_.index()); }
  bool is(Kind k) const { return kind() == k; }
  bool is_sequence(Sequence s) const { return is(Kind::kList) && sequence() == s; }
  bool is_number() const { return is(Kind::kBool) || is(Kind::kInt) || is(Kind::kFloat); }
  bool is_integral() const { return is(Kind::kBool) || is(Kind::kInt); }  // a bool is a number, as in Python

  // Each of these expects its kind.
  const Undefined& undefined() const { return std::get<Undefined>(data_); }
  bool boolean() const { return std::get<bool>(data_); }
  const std::string& string() const { return *std::get<std::shared_ptr<const std::string>>(data_); }
  const List& list() const { return nested_list().items; }
  Sequence sequence() const { return nested_list().sequence; }
  size_t& taken() const { return nested_list().taken; }  // of a generator: how many elements are gone
  const Map& map() const { return std::get<std::shared_ptr<const Nested<Map>>>(data_)->items; }
  Namespace& name_space() const { return *std::get<std::shared_ptr<Namespace>>(data_); }
  const Function& function() const { return *std::get<std::shared_ptr<const Function>>(data_); }
  int64_t integer() const { return is(Kind::kBool) ? boolean() : std::get<int64_t>(data_); }
  double number() const { return is(Kind::kFloat) ? std::get<double>(data_) : static_cast<double>(integer()); }

  const Value* find(std::string_view key) const;  // an entry of a map or namespace, or null
  bool truthy() const;
  // Rough cost of copying or walking this value's own data, in elements; bounds the work of a hostile template.
  size_t size() const;

 private:
  template <typename Items>
  struct Nested {
    Items items;
    int depth;
    Sequence sequence = Sequence::list;
    mutable size_t taken = 0;
  };
  const Nested<List>& nested_list() const { return *std::get<std::shared_ptr<const Nested<List>>>(data_); }
  int depth() const;

  std::variant<Undefined, None, bool, int64_t, double, std::shared_ptr<const std::string>,
               std::shared_ptr<const Nested<List>>, std::shared_ptr<const Nested<Map>>, std::shared_ptr<Namespace>,
               std::shared_ptr<const Function>>
      data_;
};

// The one kind of value that can change: a namespace of the template, or an object like "loop".
struct Namespace {
  std::map<std::string, Value> entries;
  bool settable = true;  // by {% set name.entry = ... %}
};

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

// Far above what a prompt holds, far below what a hostile template could ask for.
constexpr size_t kMaxTextBytes = size_t{64} << 20;
constexpr size_t kMaxElements = size_t{1} << 20;
void require_text_size(size_t bytes);      // Error beyond kMaxTextBytes
void require_element_count(size_t count);  // Error beyond kMaxElements

const char* kind_name(Kind kind);  // for messages: "a string", "a list", ...

// Python's str(). Error for what Python would write an address of, and for ranges and views.
std::string to_text(const Value& value);
std::string to_repr(const Value& value);  // Python's repr()
bool equal(const Value& a, const Value& b);
bool less(const Value& a, const Value& b);  // Error unless both are numbers, strings, lists or tuples
bool contains(const Value& container, const Value& item);
// The elements that a loop over the value sees: characters, list elements, keys. Those of a generator are taken.
// Error where Python would not iterate.
List elements(const Value& value);
int64_t length(const Value& value);  // in characters, elements or entries
// value[index], undefined where there is none.
Value subscript(const Value& value, const Value& index);

struct SliceBounds {
  Value start{None{}}, stop{None{}}, step{None{}};  // integers or none
};
Value slice(const Value& value, const SliceBounds& bounds);  // of a string or list

struct JsonStyle {
  std::optional<std::string> indent;  // of each level; none: all on one line
  std::string comma = ", ", colon = ": ";
  bool ensure_ascii = false, sort_keys = false;
};
// Python's json.dumps.
std::string to_json(const Value& value, const JsonStyle& style);

}  // namespace cepe::jinja
