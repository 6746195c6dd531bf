// The CPU backend of attention() (ops.h) and of its partials (context/context_attention.h): flash attention of many
// queries, where it is faster than LibTorch's.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

#include "ops/types.h"

namespace cepe {

// Whether the kernel can compute this: float32 on a CPU without a gradient, the numbers of a head side by side.
bool cpu_flash_fits(const at::Tensor& q_BTHK, const at::Tensor& k_BSGK, const at::Tensor& v_BSGK);
// Whether it is faster than what else there is for so many rows of a key-value head (tokens times the query heads that
// share it): on the processors where it was measured, dispatch::kCpuFlashRows.
bool cpu_flash_pays(int64_t rows);

// As attention(), without packed sequences. log_sum_exp (B, G, T * H / G) float32, contiguous, or undefined: takes the
// log-sum-exp of each row's scores; rows by token, then by query head.
at::Tensor cpu_flash_attention(const at::Tensor& q_BTHK, const at::Tensor& k_BSGK, const at::Tensor& v_BSGK,
                               const AttentionMask& mask, const at::Tensor& log_sum_exp = {});

// Rows first to first + count of one of several key-value heads, and memory for the kernel.
struct FlashPiece {
  int64_t head, first, count;
  float* scratch;
};
// All rows of all heads in pieces, which the threads take as they get free: the last rows, which see most keys where
// a mask is causal, begin.
void for_flash_pieces(int64_t heads, int64_t rows, int64_t width, const std::function<void(const FlashPiece&)>& read);

}  // namespace cepe
