// Named tensors in files, before any arithmetic library sees them. No torch here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cepe {

// Element types of safetensors and GGUF files. The Q types are GGUF's block formats.
enum class DType {
  f64,
  f32,
  f16,
  bf16,
  i64,
  i32,
  i16,
  i8,
  u8,
  boolean,  // plain
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q8_0,
  q4_k,
  q5_k,
  q6_k,  // blocks
};

std::string_view dtype_name(DType type);  // "F32", "Q4_K", ...
size_t block_elements(DType type);        // elements in a block; 1 for plain types
size_t block_bytes(DType type);           // bytes of a block
inline bool is_quantized(DType type) { return block_elements(type) > 1; }

// One tensor as it lies in a file. Row-major; the last dimension is contiguous. The bytes belong to the
// source and live as long as it does; their alignment is whatever the file gives.
struct TensorView {
  std::string name;
  DType dtype = DType::f32;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;

  int64_t elements() const;
};

// A set of named tensors: one safetensors file, the shards of a directory, or a GGUF file.
class TensorSource {
 public:
  virtual ~TensorSource() = default;
  virtual const std::vector<TensorView>& tensors() const = 0;       // in file order
  virtual const TensorView* find(std::string_view name) const = 0;  // null when absent
  virtual const std::filesystem::path& path() const = 0;            // for messages
};

// Decodes a tensor into elements() floats (row-major). Throws Error for integer and boolean types.
// Formulas of the block formats: docs/formats/gguf.md.
void decode_to_f32(const TensorView& tensor, float* out);

}  // namespace cepe
