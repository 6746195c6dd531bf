// The bounds of a context's chunks on a device, for sums of attention mass by chunk.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace cepe {

// A context of chunks that follow each other, described on a device once for all calls.
class ChunkBounds {
 public:
  ChunkBounds() = default;
  // Tokens of each chunk, at least one each.
  ChunkBounds(const std::vector<int64_t>& lengths, const at::Device& device);
  int64_t count() const { return count_; }
  int64_t tokens() const { return tokens_; }
  at::Tensor ends_M;  // int64: one past each chunk's last token
  // The work tiles of the CUDA kernel, at most 64 tokens of one chunk each; undefined on a CPU.
  at::Tensor tiles_T2;               // int32: the first token, and how many
  at::Tensor first_tiles_M;          // int32, (M + 1): the first tile of each chunk, then the number of tiles
  std::vector<int64_t> tile_tokens;  // (T + 1) on the host: the first token of each tile, then the number of tokens

 private:
  int64_t count_ = 0, tokens_ = 0;
};

}  // namespace cepe
