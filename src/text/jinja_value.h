// The values that a chat template computes with: Python's, as far as the subset needs them.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace cepe::jinja {

class Value;
using List = std::vector<Value>;
using Map = std::vector<std::pair<std::string, Value>>;  // in the order of insertion, as Python's dict
using Namespace = std::map<std::string, Value>;          // the one kind of value that can change

// A missing name or attribute: false, prints as nothing, has no elements; anything else done to it is an error.
struct Undefined {
  std::string what;  // for that error: "'x' is undefined"
};
struct None {};
struct Function {
  std::string name;  // one of the functions that a template can call
};

enum class Kind { kUndefined, kNone, kBool, kInt, kFloat, kString, kList, kMap, kNamespace, kFunction };

// Copies are cheap: strings, lists and maps are shared and never change. Containers nest at most kMaxDepth deep and
// hold no namespace, so values are trees that can be walked and freed by recursion.
class Value {
 public:
  static constexpr int kMaxDepth = 100;

  Value() : data_(Undefined{"a value is undefined"}) {}
  Value(Undefined undefined) : data_(std::move(undefined)) {}
  Value(None none) : data_(none) {}
  Value(Function function) : data_(std::move(function)) {}
  Value(bool b) : data_(b) {}
  Value(int64_t i) : data_(i) {}
  Value(double d) : data_(d) {}
  Value(std::string s) : data_(std::make_shared<const std::string>(std::move(s))) {}
  Value(const char* s) : Value(std::string(s)) {}
  Value(List items);  // Error when nested too deep
  Value(Map entries);
  static Value new_namespace() { return Value(std::make_shared<Namespace>()); }

  Kind kind() const { return static_cast<Kind>(data_.index()); }
  bool is(Kind k) const { return kind() == k; }
  bool is_number() const { return is(Kind::kBool) || is(Kind::kInt) || is(Kind::kFloat); }
  bool is_integral() const { return is(Kind::kBool) || is(Kind::kInt); }  // a bool is a number, as in Python

  // Each of these expects its kind.
  const Undefined& undefined() const { return std::get<Undefined>(data_); }
  bool boolean() const { return std::get<bool>(data_); }
  const std::string& string() const { return *std::get<std::shared_ptr<const std::string>>(data_); }
  const List& list() const { return std::get<std::shared_ptr<const Nested<List>>>(data_)->items; }
  const Map& map() const { return std::get<std::shared_ptr<const Nested<Map>>>(data_)->items; }
  Namespace& name_space() const { return *std::get<std::shared_ptr<Namespace>>(data_); }
  const std::string& function() const { return std::get<Function>(data_).name; }
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
  };
  explicit Value(std::shared_ptr<Namespace> data) : data_(std::move(data)) {}
  int depth() const;

  std::variant<Undefined, None, bool, int64_t, double, std::shared_ptr<const std::string>,
               std::shared_ptr<const Nested<List>>, std::shared_ptr<const Nested<Map>>, std::shared_ptr<Namespace>,
               Function>
      data_;
};

// Far above what a prompt holds, far below what a hostile template could ask for.
constexpr size_t kMaxTextBytes = size_t{64} << 20;
constexpr size_t kMaxElements = size_t{1} << 20;
void require_text_size(size_t bytes);      // Error beyond kMaxTextBytes
void require_element_count(size_t count);  // Error beyond kMaxElements

const char* kind_name(Kind kind);  // for messages: "a string", "a list", ...

// Python's str(). Error for lists and mappings, whose Python spelling no prompt wants (tojson is for that).
std::string to_text(const Value& value);
bool equal(const Value& a, const Value& b);
bool less(const Value& a, const Value& b);  // Error unless both are numbers or both strings
bool contains(const Value& container, const Value& item);
// The elements that a loop over the value sees: characters, list elements, keys. Error where Python would not iterate.
List elements(const Value& value);
int64_t length(const Value& value);  // in characters, elements or entries
// value[index], undefined where there is none.
Value subscript(const Value& value, const Value& index);

struct SliceBounds {
  Value start{None{}}, stop{None{}}, step{None{}};  // integers or none
};
Value slice(const Value& value, const SliceBounds& bounds);  // of a string or list

struct JsonStyle {
  int indent = -1;  // spaces a level; negative: all on one line
  bool ensure_ascii = false;
};
// Python's json.dumps.
std::string to_json(const Value& value, const JsonStyle& style);

}  // namespace cepe::jinja
