#include "ops/gemv/quantised_gemm_cpu.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "ops/cpu/gemm.h"
#include "ops/cpu/gemv.h"
#include "ops/dispatch.h"
#include "ops/pieces.h"

namespace cepe {
namespace {

int64_t divided_up(int64_t number, int64_t by) { return (number + by - 1) / by; }

struct PieceSizes {
  int64_t rows, outputs;
};

// The matrix is unpacked once for each piece, and each thread should have a few of these.
PieceSizes piece_sizes(int64_t rows, int64_t outputs) {
  const int64_t threads = at::in_parallel_region() ? 1 : at::get_num_threads();
  if (threads == 1) return {rows, cpu::kGemmOutputs};
  const int64_t most_blocks = std::max<int64_t>(1, rows / dispatch::kGemmRowsOfPiece);
  int64_t width = cpu::kGemmOutputs;
  while (width > cpu::kGemmUnit && divided_up(outputs, width) * most_blocks < 2 * threads) width /= 2;
  const int64_t wanted = divided_up(dispatch::kGemmPiecesOfThread * threads, divided_up(outputs, width));
  return {divided_up(rows, std::min(wanted, most_blocks)), width};
}

// The memory for x in 16 bits is kept from product to product.
void round_rows(const float* x, int64_t numbers, cpu::GemvInputs& inputs) {
  inputs.make_room_in_16_bits(numbers);
  at::parallel_for(0, numbers / cpu::kGroup, dispatch::kRoundedGroupsOfThread,
                   [&](int64_t begin, int64_t end) { cpu::round_groups(x, inputs, begin, end); });
}

void multiply(const cpu::Gemm& gemm, int64_t rows) {
  const PieceSizes each = piece_sizes(rows, gemm.outputs);
  const int64_t strips = divided_up(gemm.outputs, each.outputs);
  in_pieces(strips * divided_up(rows, each.rows), [&](int64_t piece) {
    const int64_t row = piece / strips * each.rows, output = piece % strips * each.outputs;
    const int64_t outputs = std::min(each.outputs, gemm.outputs - output);
    cpu::multiply_piece(gemm, {row, std::min(each.rows, rows - row), output, outputs});
  });
}

}  // namespace

at::Tensor quantised_gemm_cpu(const at::Tensor& x, const QuantisedWeight& weight) {
  static thread_local cpu::GemvInputs kept;
  cpu::GemvInputs& inputs = kept;
  const at::Tensor out = at::empty({x.size(0), weight.out}, x.options());
  cpu::Gemm gemm = {.format = weight.type == WeightType::int8 ? cpu::MatrixFormat::int8 : cpu::MatrixFormat::int4,
                    .x = &inputs,
                    .values = weight.values.const_data_ptr(),
                    .scales = weight.scales.const_data_ptr(),
                    .inputs = weight.in,
                    .outputs = weight.out};
  for (int64_t first = 0; first < x.size(0); first += dispatch::kGemmRowsAtOnce) {
    const int64_t rows = std::min(dispatch::kGemmRowsAtOnce, x.size(0) - first);
    round_rows(x.const_data_ptr<float>() + first * weight.in, rows * weight.in, inputs);
    gemm.out = out.mutable_data_ptr<float>() + first * weight.out;
    multiply(gemm, rows);
  }
  return out;
}

}  // namespace cepe
