#include "io/gguf.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <fstream>
#include <type_traits>

#include "base/error.h"
#include "io/layout.h"

namespace cepe {
namespace {

constexpr uint64_t kDefaultAlignment = 32;
constexpr uint32_t kMostGgufDimensions = 4;
// The fewest bytes a key-value (key length, type, one byte) and a tensor (name length, dimensions, type, offset) take.
constexpr uint64_t kLeastKeyValue = 8 + 4 + 1, kLeastTensor = 8 + 4 + 4 + 8;

enum ValueType : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };

// Reads the header front to back; every step is checked against the end of the file.
class Cursor {
 public:
  Cursor(const std::filesystem::path& path, std::span<const std::byte> bytes) : path_(path.string()), bytes_(bytes) {}

  const std::string& path() const { return path_; }
  uint64_t position() const { return position_; }
  uint64_t left() const { return bytes_.size() - position_; }

  const std::byte* take(uint64_t size, std::string_view what) {
    if (size > left()) {
      fail("{}: {} needs {} bytes at offset {}, but the file ends after {} (is it cut off?)", path_, what, size,
           position_, left());
    }
    const std::byte* start = bytes_.data() + position_;
    position_ += size;
    return start;
  }
  template <typename T>
  T read(std::string_view what) {
    T value;
    std::memcpy(&value, take(sizeof(T), what), sizeof(T));
    return value;
  }
  std::string read_string(std::string_view what) {
    auto size = read<uint64_t>(what);
    const std::byte* start = take(size, what);
    return {reinterpret_cast<const char*>(start), size};
  }
  bool read_boolean(std::string_view what) {
    auto value = read<uint8_t>(what);
    require(value <= 1, "{}: {} is {}, expected 0 or 1 for a boolean", path_, what, value);
    return value == 1;
  }
  std::string read_name(std::string_view what) {
    std::string name = read_string(what);
    require(is_valid_name(name),
            "{}: {} at offset {} is empty, longer than 1024 bytes, not UTF-8 or has control characters", path_, what,
            position_ - name.size());
    return name;
  }

 private:
  std::string path_;
  std::span<const std::byte> bytes_;
  uint64_t position_ = 0;
};

// Held: what the values are held as, Stored: how they lie in the file.
template <typename Held, typename Stored>
std::vector<Held> read_numbers(Cursor& cursor, uint64_t count, std::string_view what) {
  const std::byte* start = cursor.take(count * sizeof(Stored), what);  // count <= the file's size: no overflow
  std::vector<Held> values(count);
  for (uint64_t i = 0; i < count; ++i) {
    Stored value;
    std::memcpy(&value, start + i * sizeof(Stored), sizeof(Stored));
    values[i] = static_cast<Held>(value);
  }
  return values;
}

std::vector<std::string> read_strings(Cursor& cursor, uint64_t count, std::string_view what) {
  std::vector<std::string> values;
  values.reserve(count);
  for (uint64_t i = 0; i < count; ++i) values.push_back(cursor.read_string(what));
  return values;
}

std::vector<bool> read_booleans(Cursor& cursor, uint64_t count, std::string_view what) {
  std::vector<bool> values;
  values.reserve(count);
  for (uint64_t i = 0; i < count; ++i) values.push_back(cursor.read_boolean(what));
  return values;
}

GgufFile::Array read_array(Cursor& cursor, const std::string& key) {
  auto type = cursor.read<uint32_t>(key);
  auto count = cursor.read<uint64_t>(key);
  // A string takes at least its length, anything else at least a byte: no memory is asked for on the file's word.
  uint64_t most = cursor.left() / (type == ValueType::string ? 8 : 1);
  require(count <= most, "{}: {} has {} elements, but only {} bytes of the file follow (is it cut off?)", cursor.path(),
          key, count, cursor.left());
  switch (type) {
    case ValueType::u8: return read_numbers<uint64_t, uint8_t>(cursor, count, key);
    case ValueType::i8: return read_numbers<int64_t, int8_t>(cursor, count, key);
    case ValueType::u16: return read_numbers<uint64_t, uint16_t>(cursor, count, key);
    case ValueType::i16: return read_numbers<int64_t, int16_t>(cursor, count, key);
    case ValueType::u32: return read_numbers<uint64_t, uint32_t>(cursor, count, key);
    case ValueType::i32: return read_numbers<int64_t, int32_t>(cursor, count, key);
    case ValueType::f32: return read_numbers<double, float>(cursor, count, key);
    case ValueType::boolean: return read_booleans(cursor, count, key);
    case ValueType::string: return read_strings(cursor, count, key);
    case ValueType::u64: return read_numbers<uint64_t, uint64_t>(cursor, count, key);
    case ValueType::i64: return read_numbers<int64_t, int64_t>(cursor, count, key);
    case ValueType::f64: return read_numbers<double, double>(cursor, count, key);
    case ValueType::array: fail("{}: {} is an array of arrays, which no model uses", cursor.path(), key);
    default: fail("{}: {} is an array of the unknown type {}", cursor.path(), key, type);
  }
}

GgufFile::Value read_value(Cursor& cursor, const std::string& key) {
  auto type = cursor.read<uint32_t>(key);
  switch (type) {
    case ValueType::u8: return uint64_t{cursor.read<uint8_t>(key)};
    case ValueType::i8: return int64_t{cursor.read<int8_t>(key)};
    case ValueType::u16: return uint64_t{cursor.read<uint16_t>(key)};
    case ValueType::i16: return int64_t{cursor.read<int16_t>(key)};
    case ValueType::u32: return uint64_t{cursor.read<uint32_t>(key)};
    case ValueType::i32: return int64_t{cursor.read<int32_t>(key)};
    case ValueType::f32: return double{cursor.read<float>(key)};
    case ValueType::boolean: return cursor.read_boolean(key);
    case ValueType::string: return cursor.read_string(key);
    case ValueType::array: return read_array(cursor, key);
    case ValueType::u64: return cursor.read<uint64_t>(key);
    case ValueType::i64: return cursor.read<int64_t>(key);
    case ValueType::f64: return cursor.read<double>(key);
    default: fail("{}: {} has the unknown type {}", cursor.path(), key, type);
  }
}

// The tensor types cepe reads, by their numbers in the file.
std::optional<DType> tensor_type(uint32_t number) {
  switch (number) {
    case 0: return DType::f32;
    case 1: return DType::f16;
    case 2: return DType::q4_0;
    case 3: return DType::q4_1;
    case 6: return DType::q5_0;
    case 7: return DType::q5_1;
    case 8: return DType::q8_0;
    case 12: return DType::q4_k;
    case 13: return DType::q5_k;
    case 14: return DType::q6_k;
    case 24: return DType::i8;
    case 25: return DType::i16;
    case 26: return DType::i32;
    case 27: return DType::i64;
    case 28: return DType::f64;
    case 30: return DType::bf16;
    default: return std::nullopt;
  }
}

// Names of the types cepe does not read, for the message.
std::string_view unsupported_type_name(uint32_t number) {
  switch (number) {
    case 9: return "Q8_1";
    case 10: return "Q2_K";
    case 11: return "Q3_K";
    case 15: return "Q8_K";
    case 16: return "IQ2_XXS";
    case 17: return "IQ2_XS";
    case 18: return "IQ3_XXS";
    case 19: return "IQ1_S";
    case 20: return "IQ4_NL";
    case 21: return "IQ3_S";
    case 22: return "IQ2_S";
    case 23: return "IQ4_XS";
    case 29: return "IQ1_M";
    case 34: return "TQ1_0";
    case 35: return "TQ2_0";
    case 39: return "MXFP4";
    default: return "unknown";
  }
}

// One tensor's description, without its bytes, and their place in the data section.
TensorView read_tensor(Cursor& cursor, uint64_t alignment, ByteRange& range) {
  TensorView tensor;
  tensor.name = cursor.read_name("a tensor's name");
  auto dimensions = cursor.read<uint32_t>(tensor.name);
  require(dimensions <= kMostGgufDimensions, "{}: tensor {} has {} dimensions, expected at most {}", cursor.path(),
          tensor.name, dimensions, kMostGgufDimensions);
  tensor.shape.resize(dimensions);
  for (uint32_t i = 0; i < dimensions; ++i) {
    auto size = cursor.read<uint64_t>(tensor.name);
    require(size >= 1 && size <= static_cast<uint64_t>(INT64_MAX),
            "{}: tensor {} has a dimension of {}, expected 1 to 2^63-1", cursor.path(), tensor.name, size);
    tensor.shape[dimensions - 1 - i] = static_cast<int64_t>(size);  // the file names the innermost first
  }
  auto type = cursor.read<uint32_t>(tensor.name);
  auto known = tensor_type(type);
  require(known.has_value(),
          "{}: tensor {} has type {} ({}), expected one of F32, F16, BF16, F64, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, "
          "Q5_K, Q6_K, I8, I16, I32, I64",
          cursor.path(), tensor.name, type, unsupported_type_name(type));
  tensor.dtype = *known;
  auto block = static_cast<int64_t>(block_elements(tensor.dtype));
  int64_t innermost = tensor.shape.empty() ? 1 : tensor.shape.back();
  require(innermost % block == 0, "{}: tensor {} of type {} has rows of {} elements, expected a multiple of {}",
          cursor.path(), tensor.name, dtype_name(tensor.dtype), innermost, block);
  auto bytes = tensor_bytes(tensor.dtype, tensor.shape);
  require(bytes.has_value(), "{}: tensor {} has shape {}, more elements than 64 bits can count", cursor.path(),
          tensor.name, shape_text(tensor.shape));
  range.begin = cursor.read<uint64_t>(tensor.name);
  require(range.begin % alignment == 0, "{}: tensor {} lies at offset {}, expected a multiple of {}", cursor.path(),
          tensor.name, range.begin, alignment);
  require(!__builtin_add_overflow(range.begin, *bytes, &range.end), "{}: tensor {} lies at offset {}, past any file",
          cursor.path(), tensor.name, range.begin);
  return tensor;
}

constexpr std::string_view kMagic = "GGUF";

void check_magic(Cursor& cursor) {
  require(cursor.left() >= 4 && std::memcmp(cursor.take(4, "the magic"), kMagic.data(), 4) == 0,
          "{}: not a GGUF file: it does not begin with GGUF", cursor.path());
  auto version = cursor.read<uint32_t>("the version");
  require(version < 65536, "{}: a big-endian GGUF file, expected little-endian", cursor.path());
  require(version == 2 || version == 3, "{}: GGUF version {}, expected 2 or 3", cursor.path(), version);
}

// "an integer" and so on, for messages about a value of the wrong kind.
std::string_view kind_of(const GgufFile::Value& value) {
  struct Visitor {
    std::string_view operator()(int64_t) const { return "an integer"; }
    std::string_view operator()(uint64_t) const { return "an integer"; }
    std::string_view operator()(double) const { return "a floating-point number"; }
    std::string_view operator()(bool) const { return "a boolean"; }
    std::string_view operator()(const std::string&) const { return "a string"; }
    std::string_view operator()(const GgufFile::Array& array) const {
      static constexpr std::string_view names[] = {"an array of integers", "an array of integers",
                                                   "an array of floating-point numbers", "an array of booleans",
                                                   "an array of strings"};
      return names[array.index()];
    }
  };
  return std::visit(Visitor{}, value);
}

[[noreturn]] void wrong_kind(const GgufFile& file, const std::string& key, std::string_view expected) {
  const GgufFile::Value* value = file.value(key);
  if (!value) fail("{}: has no value {}, expected {}", file.path().string(), key, expected);
  fail("{}: {} is {}, expected {}", file.path().string(), key, kind_of(*value), expected);
}

// Large models are kept as name-00001-of-00003.gguf and so on, each with a part of the tensors.
void refuse_split(const GgufFile& file) {
  const int64_t parts = file.integer("split.count", 1);
  if (parts <= 1) return;
  fail("{}: is part {} of a model split into {} files: merge them first with llama-gguf-split", file.path().string(),
       std::min(file.integer("split.no", 0), parts - 1) + 1, parts);
}

const GgufFile::Array* array_of(const GgufFile::Value* value) {
  return value ? std::get_if<GgufFile::Array>(value) : nullptr;
}

}  // namespace

GgufFile::GgufFile(const std::filesystem::path& path) : file_(path) {
  Cursor cursor(path, file_.bytes());
  check_magic(cursor);
  auto tensor_count = cursor.read<uint64_t>("the number of tensors");
  auto value_count = cursor.read<uint64_t>("the number of values");
  require(value_count <= cursor.left() / kLeastKeyValue && tensor_count <= cursor.left() / kLeastTensor,
          "{}: announces {} tensors and {} values, more than its {} bytes can hold", cursor.path(), tensor_count,
          value_count, file_.bytes().size());
  for (uint64_t i = 0; i < value_count; ++i) {
    std::string key = cursor.read_name("a key");
    Value value = read_value(cursor, key);
    require(values_.emplace(key, std::move(value)).second, "{}: the key {} stands twice", cursor.path(), key);
  }
  refuse_split(*this);
  auto alignment = integer("general.alignment", kDefaultAlignment);
  require(alignment >= 1 && alignment <= (1 << 30) && std::has_single_bit(static_cast<uint64_t>(alignment)),
          "{}: general.alignment is {}, expected a power of two up to 2^30", cursor.path(), alignment);
  auto step = static_cast<uint64_t>(alignment);

  std::vector<ByteRange> ranges(tensor_count);
  for (uint64_t i = 0; i < tensor_count; ++i) {
    tensors_.push_back(read_tensor(cursor, step, ranges[i]));
    require(index_.emplace(tensors_.back().name, i).second, "{}: tensor {} stands twice", cursor.path(),
            tensors_.back().name);
  }
  if (tensor_count == 0) return;
  uint64_t data_begin = (cursor.position() + step - 1) / step * step;
  require(data_begin <= file_.bytes().size(), "{}: ends before its tensors' data (is it cut off?)", cursor.path());
  auto data = file_.bytes().subspan(data_begin);
  for (uint64_t i = 0; i < tensor_count; ++i) {
    require(ranges[i].end <= data.size(),
            "{}: tensor {} ends at byte {} of the data, but the file has only {} (is it cut off?)", cursor.path(),
            tensors_[i].name, ranges[i].end, data.size());
    tensors_[i].bytes = data.subspan(ranges[i].begin, ranges[i].end - ranges[i].begin);
  }
  order_without_overlap(path, tensors_, ranges);
}

std::vector<std::string> GgufFile::keys() const {
  std::vector<std::string> keys;
  for (const auto& [key, value] : values_) keys.push_back(key);
  std::sort(keys.begin(), keys.end());
  return keys;
}

const TensorView* GgufFile::find(std::string_view name) const {
  auto found = index_.find(std::string(name));
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

const GgufFile::Value* GgufFile::value(const std::string& key) const {
  auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

std::string GgufFile::string(const std::string& key) const {
  const Value* found = value(key);
  const auto* text = found ? std::get_if<std::string>(found) : nullptr;
  if (!text) wrong_kind(*this, key, "a string");
  return *text;
}

int64_t GgufFile::integer(const std::string& key) const {
  if (const Value* found = value(key)) {
    if (const auto* number = std::get_if<int64_t>(found)) return *number;
    const auto* number = std::get_if<uint64_t>(found);
    if (number && *number <= static_cast<uint64_t>(INT64_MAX)) return static_cast<int64_t>(*number);
    if (number) fail("{}: {} is {}, more than 2^63-1", path().string(), key, *number);
  }
  wrong_kind(*this, key, "an integer");
}

int64_t GgufFile::integer(const std::string& key, int64_t fallback) const {
  return value(key) ? integer(key) : fallback;
}

double GgufFile::number(const std::string& key) const {
  if (const Value* found = value(key)) {
    if (const auto* number = std::get_if<double>(found)) return *number;
    if (const auto* number = std::get_if<int64_t>(found)) return static_cast<double>(*number);
    if (const auto* number = std::get_if<uint64_t>(found)) return static_cast<double>(*number);
  }
  wrong_kind(*this, key, "a number");
}

double GgufFile::number(const std::string& key, double fallback) const { return value(key) ? number(key) : fallback; }

bool GgufFile::boolean(const std::string& key, bool fallback) const {
  const Value* found = value(key);
  if (!found) return fallback;
  const auto* truth = std::get_if<bool>(found);
  if (!truth) wrong_kind(*this, key, "a boolean");
  return *truth;
}

const std::vector<std::string>& GgufFile::strings(const std::string& key) const {
  const Array* found = array_of(value(key));
  const auto* texts = found ? std::get_if<std::vector<std::string>>(found) : nullptr;
  if (!texts) wrong_kind(*this, key, "an array of strings");
  return *texts;
}

std::vector<double> GgufFile::numbers(const std::string& key) const {
  if (const Array* found = array_of(value(key))) {
    if (const auto* list = std::get_if<std::vector<double>>(found)) return *list;
    if (const auto* list = std::get_if<std::vector<int64_t>>(found)) return {list->begin(), list->end()};
    if (const auto* list = std::get_if<std::vector<uint64_t>>(found)) return {list->begin(), list->end()};
  }
  wrong_kind(*this, key, "an array of numbers");
}

std::vector<int64_t> GgufFile::integers(const std::string& key) const {
  if (const Array* found = array_of(value(key))) {
    if (const auto* list = std::get_if<std::vector<int64_t>>(found)) return *list;
    if (const auto* list = std::get_if<std::vector<uint64_t>>(found)) {
      for (uint64_t number : *list) {
        require(number <= static_cast<uint64_t>(INT64_MAX), "{}: {} holds {}, more than 2^63-1", path().string(), key,
                number);
      }
      return {list->begin(), list->end()};
    }
  }
  wrong_kind(*this, key, "an array of integers");
}

bool is_gguf_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  char begin[4] = {};
  return file.read(begin, sizeof(begin)) && std::string_view(begin, sizeof(begin)) == kMagic;
}

}  // namespace cepe
