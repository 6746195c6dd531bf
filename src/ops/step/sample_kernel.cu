// One block of threads a row. Thresholds of top-k and top-p are found by search: scores as ordered integers, two bits a
// pass, each pass counting (top-k) or adding weights (top-p) at and above three values. Counts and weights are
// integers, so that nothing depends on the order of additions. docs/kernels/sampling.md.
#include "ops/step/sample_kernel.h"

#include "ops/cuda/bf16_vector.cuh"
#include "ops/step/sample_weight.h"

namespace cepe::sample_kernel {
namespace {

using namespace cuda;

constexpr int kThreads = 1024, kWarps = kThreads / kWarp;

// Integers in the order of the floats.
__device__ __forceinline__ uint32_t ordered(float x) {
  const uint32_t bits = __float_as_uint(x + 0.f);  // -0 equals 0
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

struct Three {
  uint64_t at[3];
};

__device__ __forceinline__ uint64_t warp_total(uint64_t x) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
  return x;
}

// Sums over the block, for every thread.
__device__ Three block_total(Three x, uint64_t (&shared)[3][kWarps]) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
#pragma unroll
  for (int i = 0; i < 3; ++i) {
    x.at[i] = warp_total(x.at[i]);
    if (lane == 0) shared[i][warp] = x.at[i];
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 3; ++i) x.at[i] = warp_total(shared[i][lane]);
  __syncthreads();
  return x;
}

struct Prefix {
  uint64_t before, total;
};
// The sum over the threads before this one, and over all.
__device__ Prefix block_prefix(uint64_t x, uint64_t (&shared)[3][kWarps]) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  uint64_t sum = x;
#pragma unroll
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const uint64_t other = __shfl_up_sync(0xffffffffu, sum, offset);
    if (lane >= offset) sum += other;
  }
  if (lane == kWarp - 1) shared[0][warp] = sum;
  __syncthreads();
  const uint64_t of_warp = shared[0][lane];
  const uint64_t earlier = warp_total(lane < warp ? of_warp : 0), total = warp_total(of_warp);
  __syncthreads();
  return {earlier + sum - x, total};
}

// A row's tokens as the threads see them.
struct Row {
  const float* scores;
  const uint64_t* weights;
  int vocabulary;
};

// The greatest value at and above which there is enough: `enough(amount)`, where a token at or above `least` counts as
// amount(its number).
template <typename Amount, typename Enough>
__device__ uint32_t search(const Row& row, uint32_t least, uint64_t (&shared)[3][kWarps], Amount amount,
                           Enough enough) {
  uint32_t found = 0;
  for (int shift = 30; shift >= 0; shift -= 2) {
    Three sums{};
    for (int v = threadIdx.x; v < row.vocabulary; v += kThreads) {
      const uint32_t key = ordered(row.scores[v]);
      if (key < least) continue;
      const uint64_t x = amount(v);
#pragma unroll
      for (uint32_t i = 0; i < 3; ++i) sums.at[i] += key >= (found | (i + 1) << shift) ? x : 0;
    }
    sums = block_total(sums, shared);
    const uint32_t step = enough(sums.at[2]) ? 3 : enough(sums.at[1]) ? 2 : enough(sums.at[0]) ? 1 : 0;
    found |= step << shift;
  }
  return found;
}

// Scores after the repetition penalty -> the best as (ordered score, not id); 0 where they cannot be sampled.
__device__ uint64_t score(const Args& a, const Settings& s, int64_t row, float* scores, uint64_t (&shared)[3][kWarps]) {
  const int V = static_cast<int>(a.vocabulary);
  const uint8_t* seen = a.seen + row * a.vocabulary;
  bool bad = false;
  uint64_t best = 0;
  for (int v = threadIdx.x; v < V; v += kThreads) {
    const int64_t at = row * a.stride + v;
    float x =
        a.bf16 ? __bfloat162float(static_cast<const bf16*>(a.logits)[at]) : static_cast<const float*>(a.logits)[at];
    if (s.repetition_penalty != 1.f && seen[v]) {
      x = x < 0.f ? __fmul_rn(x, s.repetition_penalty) : __fdiv_rn(x, s.repetition_penalty);
    }
    bad |= isnan(x) || x == INFINITY;
    scores[v] = x;
    best = max(best, static_cast<uint64_t>(ordered(x)) << 32 | ~static_cast<uint32_t>(v));
  }
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) best = max(best, __shfl_xor_sync(0xffffffffu, best, offset));
  if (threadIdx.x % kWarp == 0) shared[0][threadIdx.x / kWarp] = best;
  const bool any_bad = __syncthreads_or(bad);
  best = shared[0][threadIdx.x % kWarp];
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) best = max(best, __shfl_xor_sync(0xffffffffu, best, offset));
  __syncthreads();
  return any_bad || static_cast<uint32_t>(best >> 32) == ordered(-INFINITY) ? 0 : best;
}

// Which tokens stay: those above `least`, and the first `ties` of those that equal it, by id.
struct Kept {
  uint32_t least;
  uint64_t ties;
};

__device__ Kept keep(const Settings& s, const Row& row, uint64_t (&shared)[3][kWarps]) {
  uint32_t least = 0;
  if (s.top_k > 0 && s.top_k < row.vocabulary) {
    least = search(
        row, 0, shared, [](int) { return uint64_t{1}; },
        [&](uint64_t count) { return count >= static_cast<uint64_t>(s.top_k); });
  }
  if (s.top_p >= 1) return {least, ~uint64_t{0}};
  Three sums{};
  for (int v = threadIdx.x; v < row.vocabulary; v += kThreads) {
    if (ordered(row.scores[v]) >= least) sums.at[0] += row.weights[v];
  }
  const double limit = s.top_p * static_cast<double>(block_total(sums, shared).at[0]);
  const auto enough = [&](uint64_t sum) { return static_cast<double>(sum) >= limit; };
  const uint32_t last = search(row, least, shared, [&](int v) { return row.weights[v]; }, enough);
  sums = {};
  for (int v = threadIdx.x; v < row.vocabulary; v += kThreads) {
    const uint32_t key = ordered(row.scores[v]);
    if (key > last) sums.at[0] += row.weights[v];
    if (key == last) sums.at[1] += row.weights[v], ++sums.at[2];
  }
  sums = block_total(sums, shared);
  const uint64_t weight = sums.at[2] > 0 ? sums.at[1] / sums.at[2] : 0;  // of each that equals the last one
  const double missing = (limit - static_cast<double>(sums.at[0])) / static_cast<double>(max(weight, uint64_t{1})) - 2;
  uint64_t ties = missing > 0 ? min(sums.at[2], static_cast<uint64_t>(missing)) : 0;
  while (ties < sums.at[2] && !enough(sums.at[0] + ties * weight)) ++ties;
  return {last, ties};
}

// Sums run by id: a warp takes consecutive tokens, 32 at a time.
__device__ void draw(const Args& a, Settings& s, int64_t r, const Row& row, const Kept& kept,
                     uint64_t (&shared)[3][kWarps]) {
  const double floor = s.min_p * kSampleWeightOne;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int each = (row.vocabulary + kThreads - 1) / kThreads * kWarp;
  const int first = min(row.vocabulary, warp * each), end = min(row.vocabulary, first + each);
  uint64_t ties = 0;
  for (int v = first + lane; v < end; v += kWarp) ties += ordered(row.scores[v]) == kept.least;
  const uint64_t ties_before = block_prefix(ties, shared).before;  // of lane 0: those of earlier warps
  const uint64_t tie_of_warp = __shfl_sync(0xffffffffu, ties_before, 0);
  const auto running = [&](auto visit) {  // visit(v, weight) by all lanes, weight 0 for a token that does not stay
    uint64_t tie = tie_of_warp;
    for (int start = first; start < end; start += kWarp) {
      const int v = start + lane;
      const uint32_t key = v < end ? ordered(row.scores[v]) : 0;
      const unsigned equal = __ballot_sync(0xffffffffu, v < end && key == kept.least);
      const uint64_t rank = tie + __popc(equal & ((1u << lane) - 1));
      tie += __popc(equal);
      const bool stays = v < end && (key > kept.least || (key == kept.least && rank < kept.ties));
      const uint64_t weight = stays ? row.weights[v] : 0;
      if (visit(v, static_cast<double>(weight) >= floor ? weight : 0)) return;
    }
  };
  uint64_t mine = 0;
  running([&](int, uint64_t weight) {
    mine += weight;
    return false;
  });
  const uint64_t of_warp = warp_total(mine);
  const Prefix sums = block_prefix(lane == 0 ? of_warp : 0, shared);
  const uint64_t before = __shfl_sync(0xffffffffu, sums.before, 0);
  const uint64_t target = sample_target(s.seed, s.draws, sums.total);
  if (target < before || target >= before + of_warp) return;
  uint64_t sum = before;
  running([&](int v, uint64_t weight) {
    uint64_t upto = weight;
#pragma unroll
    for (int offset = 1; offset < kWarp; offset *= 2) {
      const uint64_t other = __shfl_up_sync(0xffffffffu, upto, offset);
      if (lane >= offset) upto += other;
    }
    const bool here = sum + upto - weight <= target && target < sum + upto;
    if (here) {
      a.chosen[r] = v;
      a.seen[r * a.vocabulary + v] = 1;
    }
    sum += __shfl_sync(0xffffffffu, upto, kWarp - 1);
    return __any_sync(0xffffffffu, here) != 0;
  });
}

__global__ void __launch_bounds__(kThreads) sample_rows(const Args a) {
  __shared__ uint64_t shared[3][kWarps];
  trigger_dependents();
  grid_dependency_sync();
  const int64_t r = blockIdx.x;
  Settings s = a.settings[r];
  float* scores = a.scores + r * a.vocabulary;
  uint64_t* weights = a.weights + r * a.vocabulary;
  const uint64_t best = score(a, s, r, scores, shared);
  const uint32_t best_id = ~static_cast<uint32_t>(best);
  if (best == 0 || s.temperature == 0) {
    if (threadIdx.x != 0) return;
    a.chosen[r] = best == 0 ? 0 : best_id;
    if (best == 0)
      a.failed[r] = 1;
    else
      a.seen[r * a.vocabulary + best_id] = 1;
    return;
  }
  const double top = scores[best_id];
  for (int v = threadIdx.x; v < a.vocabulary; v += kThreads) {
    weights[v] = static_cast<uint64_t>(__double2ull_rn(exp((scores[v] - top) / s.temperature) * kSampleWeightOne));
  }
  __syncthreads();
  const Row row{scores, weights, static_cast<int>(a.vocabulary)};
  const Kept kept = keep(s, row, shared);
  draw(a, s, r, row, kept, shared);
  __syncthreads();
  if (threadIdx.x == 0) a.settings[r].draws = s.draws + 1;
}

}  // namespace

void sample(const Args& args, void* stream) {
  if (args.rows == 0) return;
  const LaunchShape how{dim3(static_cast<unsigned>(args.rows)), kThreads, 0, as_stream(stream)};
  launch_dependent("sample", sample_rows, how, args);
}

}  // namespace cepe::sample_kernel
