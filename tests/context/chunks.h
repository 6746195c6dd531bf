// Chunks of pseudo-random tokens, and their states one chunk at a time, for the tests of contexts.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <random>

#include "context/encode_context.h"
#include "model/fixtures.h"

namespace cepe {

inline Cepe small_model(const std::string& name, at::ScalarType dtype = at::kFloat) {
  at::set_num_threads(1);  // such small tensors only wait for threads
  return open_fixture(name, dtype).model;
}

// One for each length, different from seed to seed; token ids below `vocabulary`.
inline std::vector<TextChunk> random_text(const std::vector<int64_t>& lengths, unsigned seed = 1,
                                          int64_t vocabulary = 128) {
  std::mt19937 random(seed);
  std::vector<TextChunk> chunks;
  for (const int64_t length : lengths) {
    TextChunk chunk{{}, {"text " + std::to_string(seed), static_cast<int64_t>(chunks.size())}};
    for (int64_t i = 0; i < length; ++i) chunk.tokens.push_back(static_cast<TokenId>(random() % vocabulary));
    chunks.push_back(std::move(chunk));
  }
  return chunks;
}

// Chunk by chunk through encode(), which packs nothing.
inline at::Tensor encoded_alone(const Cepe& model, std::span<const TextChunk> chunks) {
  const at::NoGradGuard no_gradients;
  std::vector<at::Tensor> states;
  for (const TextChunk& chunk : chunks) {
    const std::vector<int64_t> ids(chunk.tokens.begin(), chunk.tokens.end());
    states.push_back(encode(model, {at::tensor(ids, at::kLong).view({1, 1, -1}), {}}).states_BSE);
  }
  return at::cat(states, 1);
}

inline std::vector<TextChunk> in_order(const std::vector<TextChunk>& chunks, const std::vector<int64_t>& order) {
  std::vector<TextChunk> out;
  for (const int64_t i : order) out.push_back(chunks[static_cast<size_t>(i)]);
  return out;
}

}  // namespace cepe
