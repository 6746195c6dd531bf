// Builds GGUF files byte by byte, right or wrong.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace cepe {

// Value types of the format (docs/formats/gguf.md).
enum GgufType : uint32_t { kU8 = 0, kU32 = 4, kF32 = 6, kBool = 7, kString = 8, kArray = 9, kU64 = 10 };

class GgufBytes {
 public:
  template <typename T>
  GgufBytes& put(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(T));
    return *this;
  }
  GgufBytes& raw(std::string_view bytes) {
    bytes_ += bytes;
    return *this;
  }
  GgufBytes& text(std::string_view value) { return put<uint64_t>(value.size()).raw(value); }
  GgufBytes& header(uint64_t tensors, uint64_t values, uint32_t version = 3) {
    return raw("GGUF").put(version).put(tensors).put(values);
  }
  template <typename T>
  GgufBytes& value(std::string_view key, GgufType type, T number) {
    return text(key).put<uint32_t>(type).put(number);
  }
  // dimensions: innermost first, as in the file.
  GgufBytes& tensor(std::string_view name, const std::vector<uint64_t>& dimensions, uint32_t type, uint64_t offset) {
    text(name).put(static_cast<uint32_t>(dimensions.size()));
    for (uint64_t dimension : dimensions) put(dimension);
    return put(type).put(offset);
  }
  // Zeros up to a multiple of the alignment, then `size` bytes of data.
  GgufBytes& data(size_t size, size_t alignment = 32) {
    bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment);
    bytes_.resize(bytes_.size() + size, '\x11');
    return *this;
  }
  const std::string& str() const { return bytes_; }

 private:
  std::string bytes_;
};

}  // namespace cepe
