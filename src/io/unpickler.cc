#include "io/unpickler.h"

#include <cstring>
#include <set>
#include <string_view>
#include <unordered_map>

#include "base/error.h"
#include "io/layout.h"

namespace cepe {
namespace {

// Of a pickle; one of 400 tensors has 80 KB and 8000 values. They bound what a hostile file can make us allocate.
constexpr size_t kMostBytes = 16 << 20, kMostValues = 2'000'000;
constexpr size_t kMostPickledDimensions = 16;
constexpr size_t kLongestKey = 255;  // of a storage; torch.save counts them

// Names that a pickle may use, as "module name". What they stand for is done here; Python is not there.
constexpr std::string_view kOrderedDict = "collections OrderedDict";
constexpr std::string_view kTensor = "torch._utils _rebuild_tensor_v2";
constexpr std::string_view kParameter = "torch._utils _rebuild_parameter";
struct StorageType {
  std::string_view name;
  DType dtype;
};
constexpr StorageType kStorageTypes[] = {
    {"torch DoubleStorage", DType::f64},    {"torch FloatStorage", DType::f32}, {"torch HalfStorage", DType::f16},
    {"torch BFloat16Storage", DType::bf16}, {"torch LongStorage", DType::i64},  {"torch IntStorage", DType::i32},
    {"torch ShortStorage", DType::i16},     {"torch CharStorage", DType::i8},   {"torch ByteStorage", DType::u8},
    {"torch BoolStorage", DType::boolean},
};

const StorageType* storage_type(std::string_view name) {
  for (const StorageType& type : kStorageTypes) {
    if (type.name == name) return &type;
  }
  return nullptr;
}

// The name as one of the constants above; empty where it is none of them.
std::string_view known_name(std::string_view name) {
  for (const std::string_view known : {kOrderedDict, kTensor, kParameter}) {
    if (known == name) return known;
  }
  const StorageType* type = storage_type(name);
  return type ? type->name : "";
}

// Values refer to each other by their index in one list: whatever a hostile pickle nests, nothing here recurses.
using Index = uint32_t;
struct Value {
  enum class Kind { none, boolean, integer, real, text, tuple, list, dictionary, global, storage, tensor };
  Kind kind = Kind::none;
  int64_t number = 0;     // an integer; the elements of a storage
  std::string_view text;  // in the pickle: a text, the key of a storage; of a global: its known_name()
  // Of a tuple or list; keys and values of a dictionary in turn; the type of a storage; the arguments of a tensor.
  std::vector<Index> items;
};
using Kind = Value::Kind;

const char* kind_name(Kind kind) {
  static const char* const names[] = {"None",   "a truth value", "an integer", "a number",  "a text",  "a tuple",
                                      "a list", "a dictionary",  "a class",    "a storage", "a tensor"};
  return names[static_cast<size_t>(kind)];
}

class Unpickler {
 public:
  Unpickler(const std::string& where, std::span<const std::byte> pickle) : where_(where), pickle_(pickle) {}

  std::vector<PickledTensor> tensors() {
    require(pickle_.size() <= kMostBytes, "{}: its pickle has {} bytes, the limit is {}", where_, pickle_.size(),
            kMostBytes);
    require(next<uint8_t>() == 0x80 && next<uint8_t>() == 2,
            "{}: its pickle is not of protocol 2, as torch.save writes", where_);
    while (step(static_cast<char>(next<uint8_t>()))) continue;
    const Value& top = values_[pop()];
    require(top.kind == Kind::dictionary, "{}: holds {}, expected a dictionary of tensors", where_,
            kind_name(top.kind));
    std::vector<PickledTensor> out;
    for (size_t i = 0; i < top.items.size(); i += 2) out.push_back(tensor(values_[top.items[i]], top.items[i + 1]));
    return out;
  }

 private:
  [[noreturn]] void damaged() const { fail("{}: its pickle is damaged at byte {}", where_, at_); }

  std::string_view bytes(size_t size) {
    if (size > pickle_.size() - at_) fail("{}: its pickle breaks off (is the file cut off?)", where_);
    at_ += size;
    return {reinterpret_cast<const char*>(pickle_.data()) + at_ - size, size};
  }
  template <typename T>
  T next() {
    T value;
    std::memcpy(&value, bytes(sizeof value).data(), sizeof value);
    return value;
  }
  std::string_view line() {
    const std::string_view rest(reinterpret_cast<const char*>(pickle_.data()) + at_, pickle_.size() - at_);
    const size_t end = rest.find('\n');
    if (end == std::string_view::npos) fail("{}: its pickle breaks off (is the file cut off?)", where_);
    return bytes(end + 1).substr(0, end);
  }

  void push(Value value) {
    require(values_.size() < kMostValues, "{}: its pickle holds more than {} values", where_, kMostValues);
    stack_.push_back(static_cast<Index>(values_.size()));
    values_.push_back(std::move(value));
  }
  Index pop() {
    // A mark hides what lies below it.
    if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) damaged();
    const Index top = stack_.back();
    stack_.pop_back();
    return top;
  }
  std::vector<Index> pop_many(size_t count) {
    if (stack_.size() - (marks_.empty() ? 0 : marks_.back()) < count) damaged();
    std::vector<Index> out(stack_.end() - static_cast<ptrdiff_t>(count), stack_.end());
    stack_.resize(stack_.size() - count);
    return out;
  }
  std::vector<Index> pop_to_mark() {
    if (marks_.empty()) damaged();
    std::vector<Index> out = pop_many(stack_.size() - marks_.back());
    marks_.pop_back();
    return out;
  }
  Value& top(Kind kind) {
    if (stack_.size() <= (marks_.empty() ? 0 : marks_.back()) || values_[stack_.back()].kind != kind) damaged();
    return values_[stack_.back()];
  }
  void add_to(Kind kind, const std::vector<Index>& items) {
    if (kind == Kind::dictionary && items.size() % 2) damaged();
    std::vector<Index>& out = top(kind).items;
    out.insert(out.end(), items.begin(), items.end());
  }
  void push_number(int64_t number, Kind kind = Kind::integer) { push({kind, number, {}, {}}); }

  // Carries out one operation; false at the end. The letters are those of Python's pickletools.
  bool step(char operation) {
    switch (operation) {
      case '.': return false;
      case '(': marks_.push_back(stack_.size()); break;
      case 'N': push({}); break;
      case '\x88': push_number(1, Kind::boolean); break;
      case '\x89': push_number(0, Kind::boolean); break;
      case 'K': push_number(next<uint8_t>()); break;
      case 'M': push_number(next<uint16_t>()); break;
      case 'J': push_number(next<int32_t>()); break;
      case '\x8a': push_number(long_integer()); break;
      case 'G': bytes(8), push_number(0, Kind::real); break;  // only in what is passed over
      case 'X': push({Kind::text, 0, bytes(next<uint32_t>()), {}}); break;
      case ')': push({Kind::tuple, 0, {}, {}}); break;
      case ']': push({Kind::list, 0, {}, {}}); break;
      case '}': push({Kind::dictionary, 0, {}, {}}); break;
      case 't': push({Kind::tuple, 0, {}, pop_to_mark()}); break;
      case '\x85': push({Kind::tuple, 0, {}, pop_many(1)}); break;
      case '\x86': push({Kind::tuple, 0, {}, pop_many(2)}); break;
      case '\x87': push({Kind::tuple, 0, {}, pop_many(3)}); break;
      case 'a': add_to(Kind::list, pop_many(1)); break;
      case 'e': add_to(Kind::list, pop_to_mark()); break;
      case 's': add_to(Kind::dictionary, pop_many(2)); break;
      case 'u': add_to(Kind::dictionary, pop_to_mark()); break;
      case 'q': remember(next<uint8_t>()); break;
      case 'r': remember(next<uint32_t>()); break;
      case 'h': recall(next<uint8_t>()); break;
      case 'j': recall(next<uint32_t>()); break;
      case 'c': global(); break;
      case 'Q': storage(); break;
      case 'R': call(); break;
      case 'b': pop(), top(Kind::dictionary); break;  // attributes of an OrderedDict: its _metadata
      default:
        fail("{}: its pickle uses operation {:#04x} at byte {}, which no dictionary of tensors needs", where_,
             static_cast<uint8_t>(operation), at_ - 1);
    }
    return true;
  }

  int64_t long_integer() {
    const uint8_t size = next<uint8_t>();
    if (size > 8) fail("{}: its pickle holds an integer of {} bytes, the limit is 8", where_, size);
    const std::string_view digits = bytes(size);
    uint64_t value =
        size > 0 && (digits.back() & 0x80) ? ~uint64_t{0} : 0;  // the sign, in the bytes that are not there
    std::memcpy(&value, digits.data(), size);
    return static_cast<int64_t>(value);
  }
  void remember(uint32_t key) {
    if (stack_.empty()) damaged();
    memo_[key] = stack_.back();
  }
  void recall(uint32_t key) {
    const auto found = memo_.find(key);
    if (found == memo_.end()) damaged();
    stack_.push_back(found->second);
  }

  void global() {
    const std::string_view module = line(), name = line();
    const std::string_view known = known_name(fmt::format("{} {}", module, name));
    if (known.empty()) {
      fail("{}: its pickle asks for {}.{}, which no dictionary of tensors needs: the file is refused", where_,
           quotable(module), quotable(name));
    }
    push({Kind::global, 0, known, {}});
  }

  // A persistent id: ("storage", type, key, device, elements).
  void storage() {
    const std::vector<Index>& parts = values_[pop()].items;
    const auto is = [&](size_t i, Kind kind) { return values_[parts[i]].kind == kind; };
    const bool fits = parts.size() == 5 && is(0, Kind::text) && values_[parts[0]].text == "storage" &&
                      is(1, Kind::global) && storage_type(values_[parts[1]].text) && is(2, Kind::text) &&
                      values_[parts[2]].text.size() <= kLongestKey && is(4, Kind::integer);
    require(fits, "{}: its pickle refers to something that is no storage of a tensor, at byte {}", where_, at_);
    push({Kind::storage, values_[parts[4]].number, values_[parts[2]].text, {parts[1]}});
  }

  void call() {
    const Index arguments = pop(), function = pop();
    if (values_[arguments].kind != Kind::tuple || values_[function].kind != Kind::global) damaged();
    const std::vector<Index>& given = values_[arguments].items;
    const std::string_view name = values_[function].text;
    if (name == kOrderedDict) {
      if (!given.empty()) damaged();
      push({Kind::dictionary, 0, {}, {}});
    } else if (name == kTensor) {
      // (storage, offset, shape, stride, requires_grad, hooks[, metadata])
      if (given.size() != 6 && given.size() != 7) damaged();
      push({Kind::tensor, 0, {}, {given.begin(), given.begin() + 4}});
    } else if (name == kParameter) {
      if (given.empty()) damaged();
      stack_.push_back(given[0]);  // the tensor itself
    } else {
      damaged();  // a storage is named, not called
    }
  }

  std::vector<int64_t> integers(const std::string& name, Index tuple) const {
    std::vector<int64_t> out;
    const Value& value = values_[tuple];
    require(value.kind == Kind::tuple && value.items.size() <= kMostPickledDimensions,
            "{}: tensor {} has a shape or stride that is no tuple of at most {} integers", where_, name,
            kMostPickledDimensions);
    for (const Index item : value.items) {
      require(values_[item].kind == Kind::integer && values_[item].number >= 0,
              "{}: tensor {} has {} or a negative number in its shape or stride", where_, name,
              kind_name(values_[item].kind));
      out.push_back(values_[item].number);
    }
    return out;
  }

  PickledTensor tensor(const Value& key, Index index) {
    require(key.kind == Kind::text && is_valid_name(key.text),
            "{}: a tensor's name is no text, empty, longer than 1024 bytes or has control characters", where_);
    PickledTensor out;
    out.name = key.text;
    require(names_.insert(out.name).second, "{}: names tensor {} twice", where_, out.name);
    const Value& value = values_[index];
    require(value.kind == Kind::tensor, "{}: {} is {}, expected a tensor", where_, out.name, kind_name(value.kind));
    const Value &storage = values_[value.items[0]], &offset = values_[value.items[1]];
    require(storage.kind == Kind::storage && offset.kind == Kind::integer && offset.number >= 0,
            "{}: tensor {} has no storage or no offset into it", where_, out.name);
    out.dtype = storage_type(values_[storage.items[0]].text)->dtype;
    out.storage = storage.text;
    out.storage_elements = storage.number;
    out.offset = offset.number;
    out.shape = integers(out.name, value.items[2]);
    out.stride = integers(out.name, value.items[3]);
    require(out.shape.size() == out.stride.size(), "{}: tensor {} has {} dimensions and {} strides", where_, out.name,
            out.shape.size(), out.stride.size());
    return out;
  }

  const std::string& where_;
  std::span<const std::byte> pickle_;
  size_t at_ = 0;
  std::vector<Value> values_;
  std::vector<Index> stack_;
  std::vector<size_t> marks_;  // sizes of the stack
  std::unordered_map<uint32_t, Index> memo_;
  std::set<std::string> names_;
};

}  // namespace

std::vector<PickledTensor> read_pickled_tensors(const std::string& where, std::span<const std::byte> pickle) {
  return Unpickler(where, pickle).tensors();
}

}  // namespace cepe
