// Attention of many queries on a CPU: the flash kernel beside LibTorch's attention and a large product, GFLOP/s of
// processor time. With one thread (OMP_NUM_THREADS=1) other programs on the machine disturb such times least.
//
//   OMP_NUM_THREADS=1 build/bench/flash_attention_bench
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <functional>
#include <vector>

#include "ops/attention_cpu.h"

namespace {

struct Shape {
  const char* what;
  int64_t batch, tokens, keys, head_dim;
  bool causal;
};
constexpr int64_t kHeads = 9, kKvHeads = 3;

double seconds_of(const std::function<at::Tensor()>& work) {
  const auto now = [] { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; };
  const double start = now();
  work();
  return now() - start;
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

// Medians of both, in turn.
std::pair<double, double> measure(const std::function<at::Tensor()>& one, const std::function<at::Tensor()>& other,
                                  int times) {
  std::vector<double> ones, others;
  for (int i = 0; i < times; ++i) {
    ones.push_back(seconds_of(one));
    others.push_back(seconds_of(other));
  }
  return {median(ones), median(others)};
}

void show(const Shape& shape) {
  const int64_t B = shape.batch, T = shape.tokens, S = shape.keys, K = shape.head_dim;
  const at::Tensor q = at::randn({B, T, kHeads, K}), k = at::randn({B, S, kKvHeads, K}), v = at::randn_like(k);
  const at::Tensor heads = q.transpose(1, 2), k_BGSK = k.transpose(1, 2), v_BGSK = v.transpose(1, 2);
  const auto libtorch = [&] {
    if (shape.causal) return at::scaled_dot_product_attention(heads, k_BGSK, v_BGSK, {}, 0.0, true, {}, true);
    const at::Tensor rows = heads.reshape({B, kKvHeads, kHeads / kKvHeads * T, K});
    return at::scaled_dot_product_attention(rows, k_BGSK, v_BGSK);
  };
  const auto ours = [&] { return cepe::cpu_flash_attention(q, k, v, {.causal = shape.causal}); };
  const double pairs = static_cast<double>(B * T) * (shape.causal ? static_cast<double>(T + 1) / 2 : S);
  const double gigas = 4e-9 * static_cast<double>(kHeads * K) * pairs;
  const auto [fast, peer] = measure(ours, libtorch, gigas > 50 ? 3 : 9);
  std::printf("%-44s %8.1f %8.1f %7.2f\n", shape.what, gigas / fast, gigas / peer, peer / fast);
  std::fflush(stdout);
}

}  // namespace

int main() {
  const c10::NoGradGuard no_gradients;
  at::manual_seed(1);
  const at::Tensor x = at::randn({2048, 2048}), y = at::randn({2048, 2048});
  const auto product = [&] { return at::matmul(x, y); };
  std::printf("%d threads, %s; a product of 2,048 x 2,048: %.1f GFLOP/s\n", at::get_num_threads(),
              at::get_cpu_capability().c_str(), 2e-9 * 2048 * 2048 * 2048 / measure(product, product, 5).first);
  std::printf("%-44s %8s %8s %7s\n", "9 heads on 3, of 64", "ours", "LibTorch", "ratio");
  for (const Shape& shape : {Shape{"a prompt of 593 tokens", 1, 593, 593, 64, true},
                             Shape{"a text of 2,048 tokens", 1, 2048, 2048, 64, true},
                             Shape{"32 tokens over a context of 2,048", 1, 32, 2048, 64, false},
                             Shape{"593 tokens over a context of 6,144", 1, 593, 6144, 64, false},
                             Shape{"2,048 tokens over a context of 30,720", 1, 2048, 30720, 64, false},
                             Shape{"1,024 tokens over 2,048, heads of 128", 1, 1024, 2048, 128, false},
                             Shape{"16 chunks of 256", 16, 256, 256, 64, false}}) {
    show(shape);
  }
}
