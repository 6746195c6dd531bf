// A decoding step's self-attention (ops/step/step_ops.h): the kernels of a CPU, as raw pointers and plain structs. A
// step is begin(), then the items 0 .. items() in any order and on any threads, then finish(). Results do not depend on
// how items are dealt. Nothing here sees LibTorch.
#pragma once

#include <cstdint>
#include <vector>

namespace cepe::cpu {

constexpr int64_t kMostStepHeadSize = 256;
constexpr bool step_head_size_fits(int64_t head_size) {
  return head_size > 0 && head_size % 32 == 0 && head_size <= kMostStepHeadSize;
}

struct StepArgs {
  bool half = false;           // numbers are bfloat16; else float32. Arithmetic is float32
  const void* qkv = nullptr;   // (batch, (heads + 2 kv_heads) head_size)
  const float* cos = nullptr;  // (positions, head_size / 2)
  const float* sin = nullptr;
  const int64_t* positions = nullptr;  // (batch), each less than capacity
  const void* q_norm = nullptr;        // (head_size), or null: none
  const void* k_norm = nullptr;
  void* k_cache = nullptr;  // (batch, capacity, kv_heads, head_size)
  void* v_cache = nullptr;
  void* out = nullptr;                                                      // (batch, heads head_size)
  int64_t batch = 0, capacity = 0, heads = 0, kv_heads = 0, head_size = 0;  // step_head_size_fits()
  float eps = 0;
};

// What is the same for all items, and what they leave: a row for each piece of each head. Keeps its memory from step to
// step.
struct StepWork {
  std::vector<float> queries;       // (batch, heads, head_size), scaled
  std::vector<int64_t> pieces;      // (batch + 1): of the sequences before, so that the last is all
  std::vector<float> highest, sum;  // (pieces, heads): the highest score, and the sum of e^(score - highest)
  std::vector<float> read;          // (pieces, heads, head_size): the values, weighted by those
};
// Of each head of each piece of a sequence.
inline int64_t items(const StepArgs& args, const StepWork& work) { return work.pieces.back() * args.heads; }

// Norms and rotations; writes keys and values into the caches.
void begin(const StepArgs& args, StepWork& work);
void attend(const StepArgs& args, StepWork& work, int64_t first, int64_t end);
void finish(const StepArgs& args, StepWork& work);

}  // namespace cepe::cpu
