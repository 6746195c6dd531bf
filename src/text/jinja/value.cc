#include "text/jinja/value.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "text/utf8.h"

namespace cepe::jinja {
namespace {

// Where each character of the text begins, and its end.
std::vector<size_t> character_offsets(std::string_view text) {
  std::vector<size_t> out;
  for (size_t at = 0; at < text.size(); at += code_point_at(text, at).size) out.push_back(at);
  out.push_back(text.size());
  return out;
}

int checked_depth(int inner) {
  require(inner < Value::kMaxDepth, "a value is nested more than {} deep", Value::kMaxDepth);
  return inner + 1;
}

void forbid_namespace(const Value& value) {
  require(!value.is(Kind::kNamespace), "a namespace inside a list or mapping is not supported");
}

}  // namespace

Value::Value(List items, Sequence sequence) {
  int inner = 0;
  for (const Value& item : items) {
    forbid_namespace(item);
    inner = std::max(inner, item.depth());
  }
  const int depth = checked_depth(inner);
  data_ = std::make_shared<const Nested<List>>(Nested<List>{std::move(items), depth, sequence});
}

Value::Value(Map entries) {
  int inner = 0;
  for (const auto& [key, item] : entries) {
    forbid_namespace(item);
    inner = std::max(inner, item.depth());
  }
  const int depth = checked_depth(inner);
  data_ = std::make_shared<const Nested<Map>>(Nested<Map>{std::move(entries), depth});
}

int Value::depth() const {
  if (is(Kind::kList)) return std::get<std::shared_ptr<const Nested<List>>>(data_)->depth;
  if (is(Kind::kMap)) return std::get<std::shared_ptr<const Nested<Map>>>(data_)->depth;
  return 0;
}

const Value* Value::find(std::string_view key) const {
  if (is(Kind::kNamespace)) {
    const auto& entries = name_space().entries;
    const auto found = entries.find(std::string(key));
    return found == entries.end() ? nullptr : &found->second;
  }
  for (const auto& [name, value] : map()) {
    if (name == key) return &value;
  }
  return nullptr;
}

bool Value::truthy() const {
  switch (kind()) {
    case Kind::kUndefined:
    case Kind::kNone: return false;
    case Kind::kBool: return boolean();
    case Kind::kInt: return integer() != 0;
    case Kind::kFloat: return number() != 0;
    case Kind::kString: return !string().empty();
    case Kind::kList: return sequence() == Sequence::generator || !list().empty();
    case Kind::kMap: return !map().empty();
    case Kind::kNamespace:
    case Kind::kFunction: return true;
  }
  return false;
}

size_t Value::size() const {
  switch (kind()) {
    case Kind::kString: return string().size() / 16;
    case Kind::kList: return list().size();
    case Kind::kMap: return map().size();
    default: return 0;
  }
}

void require_text_size(size_t bytes) {
  require(bytes <= kMaxTextBytes, "a text grows beyond {} MiB", kMaxTextBytes >> 20);
}

void require_element_count(size_t count) {
  require(count <= kMaxElements, "a list grows beyond {} elements", kMaxElements);
}

const char* kind_name(Kind kind) {
  switch (kind) {
    case Kind::kUndefined: return "an undefined value";
    case Kind::kNone: return "none";
    case Kind::kBool: return "a boolean";
    case Kind::kInt: return "an integer";
    case Kind::kFloat: return "a float";
    case Kind::kString: return "a string";
    case Kind::kList: return "a list";
    case Kind::kMap: return "a mapping";
    case Kind::kNamespace: return "a namespace";
    case Kind::kFunction: return "a function";
  }
  return "a value";
}

bool equal(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) return a.integer() == b.integer();
  if (a.is_number() && b.is_number()) return a.number() == b.number();
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::kString: return a.string() == b.string();
    case Kind::kList:
      if (a.sequence() == Sequence::generator) return &a.list() == &b.list();
      return a.sequence() == b.sequence() &&
             std::equal(a.list().begin(), a.list().end(), b.list().begin(), b.list().end(), equal);
    case Kind::kMap:
      return a.map().size() == b.map().size() && std::all_of(a.map().begin(), a.map().end(), [&](const auto& entry) {
               const Value* other = b.find(entry.first);
               return other && equal(entry.second, *other);
             });
    case Kind::kNamespace: return &a.name_space() == &b.name_space();
    case Kind::kFunction: return &a.function() == &b.function();
    default: return true;  // undefined or none, both
  }
}

bool less(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) return a.integer() < b.integer();
  if (a.is_number() && b.is_number()) return a.number() < b.number();
  // The bytes of UTF-8 stand in the order of the code points.
  if (a.is(Kind::kString) && b.is(Kind::kString)) return a.string() < b.string();
  const auto orders = [](const Value& v) { return v.is_sequence(Sequence::list) || v.is_sequence(Sequence::tuple); };
  if (orders(a) && orders(b) && a.sequence() == b.sequence()) {
    const auto [x, y] = std::mismatch(a.list().begin(), a.list().end(), b.list().begin(), b.list().end(), equal);
    return y != b.list().end() && (x == a.list().end() || less(*x, *y));
  }
  fail("{} and {} have no order", kind_name(a.kind()), kind_name(b.kind()));
}

bool contains(const Value& container, const Value& item) {
  if (container.is(Kind::kString)) {
    require(item.is(Kind::kString), "\"in\" a string needs a string at its left, found {}", kind_name(item.kind()));
    return container.string().find(item.string()) != std::string::npos;
  }
  if (container.is(Kind::kMap)) return item.is(Kind::kString) && container.find(item.string());
  if (container.is(Kind::kUndefined)) return false;
  require(container.is(Kind::kList), "\"in\" needs a string, list or mapping at its right, found {}",
          kind_name(container.kind()));
  if (!container.is_sequence(Sequence::generator)) {
    return std::any_of(container.list().begin(), container.list().end(),
                       [&](const Value& element) { return equal(element, item); });
  }
  while (container.taken() < container.list().size()) {
    if (equal(container.list()[container.taken()++], item)) return true;
  }
  return false;
}

List elements(const Value& value) {
  List out;
  switch (value.kind()) {
    case Kind::kUndefined: break;
    case Kind::kString: {
      const std::string& text = value.string();
      require_element_count(static_cast<size_t>(length(value)));
      const std::vector<size_t> offsets = character_offsets(text);
      for (size_t i = 0; i + 1 < offsets.size(); ++i) {
        out.emplace_back(text.substr(offsets[i], offsets[i + 1] - offsets[i]));
      }
      break;
    }
    case Kind::kList: {
      if (value.sequence() != Sequence::generator) return value.list();
      const auto first = static_cast<ptrdiff_t>(std::exchange(value.taken(), value.list().size()));
      return List(value.list().begin() + first, value.list().end());
    }
    case Kind::kMap:
      for (const auto& [key, item] : value.map()) out.emplace_back(key);
      break;
    default: fail("{} has no elements", kind_name(value.kind()));
  }
  return out;
}

int64_t length(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined: return 0;
    case Kind::kString:
      return std::count_if(value.string().begin(), value.string().end(),
                           [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
    case Kind::kList:
      require(value.sequence() != Sequence::generator, "a generator has no length (| list gives its elements)");
      return static_cast<int64_t>(value.list().size());
    case Kind::kMap: return static_cast<int64_t>(value.map().size());
    default: fail("{} has no length", kind_name(value.kind()));
  }
}

namespace {

// Whether Python finds value[0]: a view and a generator have no places.
bool has_places(const Value& value) {
  if (!value.is(Kind::kList)) return value.is(Kind::kString);
  return value.sequence() != Sequence::view && value.sequence() != Sequence::generator;
}

}  // namespace

Value subscript(const Value& value, const Value& index) {
  if (value.is(Kind::kUndefined)) fail("{}", value.undefined().what);
  if (index.is(Kind::kString) && (value.is(Kind::kMap) || value.is(Kind::kNamespace))) {
    if (const Value* found = value.find(index.string())) return *found;
  }
  if (index.is_integral() && has_places(value)) {
    const int64_t size = length(value);
    const int64_t at = index.integer() < 0 ? index.integer() + size : index.integer();
    if (at >= 0 && at < size) {
      const auto place = static_cast<size_t>(at);
      if (value.is(Kind::kList)) return value.list()[place];
      const std::vector<size_t> offsets = character_offsets(value.string());
      return value.string().substr(offsets[place], offsets[place + 1] - offsets[place]);
    }
  }
  const bool nameable = index.is(Kind::kString) || index.is_number();
  return Undefined{fmt::format("{} has no element {}", kind_name(value.kind()),
                               nameable ? fmt::format("\"{}\"", to_text(index)) : kind_name(index.kind()))};
}

Value slice(const Value& value, const SliceBounds& bounds) {
  if (value.is(Kind::kUndefined)) fail("{}", value.undefined().what);
  require(has_places(value), "{} cannot be sliced", kind_name(value.kind()));
  const auto bound = [](const Value& v, int64_t otherwise) {
    if (v.is(Kind::kNone)) return otherwise;
    require(v.is_integral(), "a slice needs integers, found {}", kind_name(v.kind()));
    return v.integer();
  };
  const int64_t size = length(value);
  // Larger steps and bounds than the list has elements do the same as these, and cannot overflow.
  const int64_t step = std::clamp<int64_t>(bound(bounds.step, 1), -size - 1, size + 1);
  require(step != 0, "a slice's step is zero");
  const int64_t low = step > 0 ? 0 : -1, high = step > 0 ? size : size - 1;
  const auto place = [&](int64_t at) { return at < 0 ? std::max(at + size, low) : std::min(at, high); };
  const int64_t start = bounds.start.is(Kind::kNone) ? (step > 0 ? low : high) : place(bound(bounds.start, 0));
  const int64_t stop = bounds.stop.is(Kind::kNone) ? (step > 0 ? high : low) : place(bound(bounds.stop, 0));
  std::vector<size_t> places;
  for (int64_t i = start; step > 0 ? i < stop : i > stop; i += step) places.push_back(static_cast<size_t>(i));
  if (value.is(Kind::kList)) {
    List out;
    for (const size_t place : places) out.push_back(value.list()[place]);
    return Value(std::move(out), value.sequence());
  }
  const std::vector<size_t> offsets = character_offsets(value.string());
  std::string out;
  for (const size_t place : places) out.append(value.string(), offsets[place], offsets[place + 1] - offsets[place]);
  return out;
}

}  // namespace cepe::jinja
