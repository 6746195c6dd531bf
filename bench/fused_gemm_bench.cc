// Products with what follows them as one kernel (ops/gemm/fused_gemm.h) beside LibTorch's products followed by the
// kernel for SwiGLU or rotary positions: layers of an encoder and of decoders, at several numbers of rows. Needs a CUDA
// device.
//
//   build-cuda/bench/fused_gemm_bench
#include <ATen/ATen.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAEvent.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <vector>

#include "ops/gemm/fused_gemm.h"
#include "ops/ops.h"

namespace {

using Work = std::function<void()>;

double once(const Work& work, int calls) {
  at::cuda::CUDAEvent begin(cudaEventDefault), end(cudaEventDefault);
  begin.record();
  for (int i = 0; i < calls; ++i) work();
  end.record();
  end.synchronize();
  return begin.elapsed_time(end) * 1e3 / calls;
}

// us a call of each, medians of runs in turn: the card's clock falls under load, and both get the same of it.
struct Pair {
  double ours, theirs;
};
Pair measure(const Work& ours, const Work& theirs, int calls) {
  std::vector<double> a, b;
  for (int i = 0; i < 8; ++i) {
    const double first = once(ours, calls), second = once(theirs, calls);
    if (i > 0) a.push_back(first), b.push_back(second);
  }
  std::sort(a.begin(), a.end()), std::sort(b.begin(), b.end());
  return {a[a.size() / 2], b[b.size() / 2]};
}

struct Layer {
  const char* name;
  int64_t width, hidden, heads, kv_heads, head_size;
};

at::Tensor random(at::IntArrayRef sizes) {
  return (at::randn(sizes, at::TensorOptions().device(at::kCUDA).dtype(at::kFloat)) / std::sqrt(double(sizes.back())))
      .to(at::kBFloat16);
}

struct Product {
  const char* what;
  int64_t rows, outputs;
};
void show(const Layer& layer, const Product& p, const Pair& t) {
  const double operations = 2e-6 * static_cast<double>(p.rows * p.outputs * layer.width);
  std::printf("%-16s %-8s %6ld rows: %8.1f us, %5.0f TFLOP/s; LibTorch's products and a kernel %8.1f us; ratio %.2f\n",
              layer.name, p.what, p.rows, t.ours, operations / t.ours, t.theirs, t.theirs / t.ours);
}

void compare(const Layer& l, int64_t rows) {
  const int calls = rows > 8192 ? 10 : 40;
  const at::Tensor x = random({1, rows, l.width}) * std::sqrt(double(l.width));
  const at::Tensor gate = random({l.hidden, l.width}), up = random({l.hidden, l.width});
  const Pair swiglu_times = measure([&] { cepe::swiglu_gemm(x, gate, up); },
                                    [&] { cepe::swiglu(at::linear(x, gate), at::linear(x, up)); }, calls);
  show(l, {"swiglu", rows, 2 * l.hidden}, swiglu_times);
  const at::Tensor q = random({l.heads * l.head_size, l.width}), k = random({l.kv_heads * l.head_size, l.width}),
                   v = random({l.kv_heads * l.head_size, l.width});
  const at::Tensor angles = at::randn({rows, l.head_size / 2}, x.options().dtype(at::kFloat));
  const cepe::RotaryTable table{angles.cos(), angles.sin()};
  const auto heads = [&](const at::Tensor& w) { return at::linear(x, w).view({1, rows, -1, l.head_size}); };
  const Pair rotary_times = measure([&] { cepe::rotary_gemm(x, {q, k, v}, table, 0); },
                                    [&] {
                                      cepe::rotary(heads(q), table, 0);
                                      cepe::rotary(heads(k), table, 0);
                                      heads(v);
                                    },
                                    calls);
  show(l, {"rotary", rows, (l.heads + 2 * l.kv_heads) * l.head_size}, rotary_times);
}

}  // namespace

int main() {
  const c10::NoGradGuard no_gradients;
  if (!at::cuda::is_available()) return std::printf("fused GEMMs: no CUDA device\n"), 1;
  for (const Layer& layer : {Layer{"mlm-large", 1024, 4096, 16, 16, 64}, Layer{"llama-2-7b", 4096, 11008, 32, 32, 128},
                             Layer{"llama-3-8b", 4096, 14336, 32, 8, 128}}) {
    for (const int64_t rows : {256, 512, 1024, 4096, 32768}) {
      if (rows <= 4096 || layer.width < 4096) compare(layer, rows);
    }
  }
  return 0;
}
