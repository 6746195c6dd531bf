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

// Rows of a piece: the matrix is widened once for each piece, and each thread should have a few of these.
int64_t rows_of_piece(int64_t rows, int64_t strips) {
  const int64_t threads = at::in_parallel_region() ? 1 : at::get_num_threads();
  const int64_t wanted = threads == 1 ? 1 : divided_up(dispatch::kGemmPiecesOfThread * threads, strips);
  const int64_t blocks = std::clamp<int64_t>(wanted, 1, std::max<int64_t>(1, rows / dispatch::kGemmRowsOfPiece));
  return divided_up(rows, blocks);
}

}  // namespace

at::Tensor quantised_gemm_cpu(const at::Tensor& x, const QuantisedWeight& weight) {
  static thread_local cpu::GemvInputs kept;  // keeps its memory from product to product
  cpu::GemvInputs& inputs = kept;
  inputs.make_room_in_16_bits(x.numel());
  at::parallel_for(0, x.numel() / cpu::kGroup, dispatch::kRoundedGroupsOfThread, [&](int64_t begin, int64_t end) {
    cpu::round_groups(x.const_data_ptr<float>(), inputs, begin, end);
  });
  const at::Tensor out = at::empty({x.size(0), weight.out}, x.options());
  const cpu::Gemm gemm = {
      .format = weight.type == WeightType::int8 ? cpu::MatrixFormat::int8 : cpu::MatrixFormat::int4,
      .x = &inputs,
      .values = weight.values.const_data_ptr(),
      .scales = weight.scales.const_data_ptr(),
      .out = out.mutable_data_ptr<float>(),
      .inputs = weight.in,
      .outputs = weight.out,
  };
  const int64_t rows = x.size(0), strips = divided_up(weight.out, cpu::kGemmOutputs), each = rows_of_piece(rows, strips);
  in_pieces(strips * divided_up(rows, each), [&](int64_t piece) {
    const int64_t first = piece / strips * each;
    cpu::multiply_piece(gemm, {first, std::min(each, rows - first), piece % strips * cpu::kGemmOutputs});
  });
  return out;
}

}  // namespace cepe
