// Checks that both tensor formats need: names fit to print, sizes that do not overflow, ranges that do not overlap.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/tensor_source.h"

namespace cepe {

// Valid UTF-8 of 1 to 1024 bytes without control characters: what a tensor or key may be called, and what an
// error message may quote.
bool is_valid_name(std::string_view name);
// The name as a message may quote it: itself, or words in its place where it is long or not valid.
std::string quotable(std::string_view name);

// Throws Error where a file that should hold weights is the pointer which Git LFS leaves in their place.
void refuse_git_lfs_pointer(const std::filesystem::path& path, std::span<const std::byte> file);

// The bytes a tensor of this type and shape takes, or nothing when a dimension is negative, the innermost one
// is no multiple of the block, or the number of elements (dimensions of 0 counted as 1) or of bytes passes 2^63-1.
std::optional<uint64_t> tensor_bytes(DType type, const std::vector<int64_t>& shape);

// "[2, 3]"
std::string shape_text(const std::vector<int64_t>& shape);

// A tensor's place in the data section of a file: bytes [begin, end).
struct ByteRange {
  uint64_t begin = 0, end = 0;
};
// The indices of the ranges in file order (by begin, then end). Throws Error naming two tensors that overlap.
// ranges[i] belongs to tensors[i], of which only the name is read; end >= begin must hold already.
std::vector<size_t> order_without_overlap(const std::filesystem::path& path, const std::vector<TensorView>& tensors,
                                          const std::vector<ByteRange>& ranges);

}  // namespace cepe
