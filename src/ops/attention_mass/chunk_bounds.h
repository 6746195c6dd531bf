// Where the chunks of a context lie, on a device: what attention mass is summed by.
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
  // Tiles of at most 64 tokens of one chunk, what the CUDA kernel reads at a time; undefined on a CPU.
  at::Tensor tiles_T2;               // int32: the first token, and how many
  at::Tensor first_tiles_M;          // int32, (M + 1): of each chunk, and the number of tiles
  std::vector<int64_t> tile_tokens;  // (T + 1) on the host: each tile's first token, and the tokens of all

 private:
  int64_t count_ = 0, tokens_ = 0;
};

}  // namespace cepe
