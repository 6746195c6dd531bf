// Products of many rows with a matrix in 8 or 4 bits, in whole numbers: x in 16 bits with a step for each group of 32
// inputs, as in gemv.h. A part of the matrix is unpacked to 16 bits in a core's cache and multiplied by all rows of the
// piece. Whoever calls deals pieces to threads. Nothing here sees LibTorch.
#pragma once

#include <cstdint>

#include "ops/cpu/gemv_args.h"

namespace cepe::cpu {

struct Gemm {
  MatrixFormat format = MatrixFormat::int4;  // or int8
  const GemvInputs* x = nullptr;             // in 16 bits: whole, steps, sums (round_groups in gemv.h)
  const void* values = nullptr;              // (outputs, inputs), as Gemv::values
  const void* scales = nullptr;              // as Gemv::scales
  float* out = nullptr;                      // (rows, outputs)
  int64_t inputs = 0, outputs = 0;           // inputs: a multiple of kGroup
};

constexpr int64_t kGemmOutputs = 256;  // of a piece, at most
constexpr int64_t kGemmUnit = 64;      // its first output and their number are multiples, or reach the end
// Groups of inputs that are unpacked at a time, at most, and what a piece's outputs take then.
constexpr int64_t kGemmDepth = 8;
constexpr int64_t kGemmPanelBytes = kGemmOutputs * kGemmDepth * (kGroup * 2 + 2 * 4);

struct GemmPiece {
  int64_t first_row = 0, rows = 0, first_output = 0, outputs = 0;
};

void multiply_piece(const Gemm& gemm, const GemmPiece& piece);

}  // namespace cepe::cpu
