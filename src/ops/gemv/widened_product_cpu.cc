#include "ops/gemv/widened_product_cpu.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "ops/cpu/gemv.h"
#include "ops/dispatch.h"
#include "ops/pieces.h"

namespace cepe {
namespace {

// Numbers that are widened together: 4 MB, which the cache that cores share holds, and a third of a core's own where
// each core widens for itself.
constexpr int64_t kWidenedNumbers = int64_t{1} << 20, kWidenedNumbersOfThread = 110'592;

// Outputs first .. first + count, whole tiles in 4 bits.
void widen_outputs(const QuantisedWeight& weight, int64_t first, int64_t count, float* out) {
  const int64_t in = weight.in;
  if (weight.type == WeightType::int8) {
    cpu::widen_int8_rows(weight.values.const_data_ptr<int8_t>() + first * in,
                         weight.scales.const_data_ptr<float>() + first, {count, in}, out);
    return;
  }
  const auto* values = weight.values.const_data_ptr<uint8_t>();
  const auto* scales = static_cast<const uint16_t*>(weight.scales.const_data_ptr());
  for (int64_t row = first; row < first + count; row += cpu::kTileRows, out += cpu::kTileRows * in) {
    cpu::widen_int4_tile(values + row * in / 2, scales + row * in / cpu::kGroup * 2, in, out);
  }
}

// The same by all threads.
void widen_by_all(const QuantisedWeight& weight, int64_t first, int64_t count, float* out) {
  const int64_t tiles = (count + cpu::kTileRows - 1) / cpu::kTileRows;
  at::parallel_for(0, tiles, 1, [&](int64_t begin, int64_t end) {
    const int64_t row = begin * cpu::kTileRows;
    widen_outputs(weight, first + row, std::min(count, end * cpu::kTileRows) - row, out + row * weight.in);
  });
}

// Outputs that make so many numbers, in whole tiles.
int64_t outputs_of(int64_t numbers, const QuantisedWeight& weight) {
  return std::max(cpu::kTileRows, numbers / weight.in / cpu::kTileRows * cpu::kTileRows);
}

// The same for each thread, so that there is a part for all of them.
int64_t outputs_of_thread(const QuantisedWeight& weight) {
  const int64_t threads = at::in_parallel_region() ? 1 : at::get_num_threads();
  const int64_t share = (weight.out / threads + cpu::kTileRows - 1) / cpu::kTileRows * cpu::kTileRows;
  return std::clamp(share, cpu::kTileRows, outputs_of(kWidenedNumbersOfThread, weight));
}

// Keeps its memory from call to call: pages that are new to a process cost more than what is written into them.
float* scratch(int64_t numbers) {
  static thread_local std::vector<float> kept;
  if (static_cast<int64_t>(kept.size()) < numbers) kept.resize(static_cast<size_t>(numbers));
  return kept.data();
}

void multiply(const at::Tensor& x, float* widened, int64_t first, int64_t count, const at::Tensor& out) {
  at::Tensor part = out.narrow(1, first, count);
  at::mm_out(part, x, at::from_blob(widened, {count, x.size(1)}).t());
}

}  // namespace

at::Tensor widened_product_cpu(const at::Tensor& x, const QuantisedWeight& weight) {
  const at::Tensor out = at::empty({x.size(0), weight.out}, x.options());
  const bool apart = x.size(0) <= dispatch::kWidenedByEachThread;
  const int64_t width = apart ? outputs_of_thread(weight) : outputs_of(kWidenedNumbers, weight);
  const int64_t parts = (weight.out + width - 1) / width;
  const auto count = [&](int64_t part) { return std::min(width, weight.out - part * width); };
  if (apart) {
    in_pieces(parts, [&](int64_t part) {
      float* const widened = scratch(width * weight.in);
      widen_outputs(weight, part * width, count(part), widened);
      multiply(x, widened, part * width, count(part), out);
    });
    return out;
  }
  float* const widened = scratch(width * weight.in);
  for (int64_t part = 0; part < parts; ++part) {
    widen_by_all(weight, part * width, count(part), widened);
    multiply(x, widened, part * width, count(part), out);
  }
  return out;
}

}  // namespace cepe
