// Attention on shared latents on the CPU beside LibTorch's own matrix products, which is what absorbed cross-attention
// would otherwise be: SmolLM2's and Llama-2-7B's shapes, one token and four.
//
//   build/bench/latent_attention_bench [CONTEXT_TOKENS]
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>

#include "ops/latent_attention.h"

namespace {

// Median of five runs after one that warms up.
double seconds(const std::function<void()>& work) {
  work();
  std::vector<double> runs(5);
  for (double& run : runs) {
    const auto start = std::chrono::steady_clock::now();
    work();
    run = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  std::sort(runs.begin(), runs.end());
  return runs[2];
}

struct Shape {
  const char* name;
  int64_t heads, width;
};

void measure(const Shape& shape, at::ScalarType type, int64_t tokens, int64_t context) {
  at::manual_seed(1);
  const int64_t rows = tokens * shape.heads;
  const double scale = 0.125;
  const at::Tensor query = (at::randn({1, rows, shape.width}) / 10).to(type);
  const at::Tensor states = at::randn({1, context, shape.width}).to(type);
  const double kernel = seconds([&] { cepe::latent_attention(query, states, {}, scale); });
  const double products = seconds([&] {
    const at::Tensor scores = at::matmul(query, states.transpose(1, 2)).mul(scale).to(at::kFloat);
    at::matmul(scores.softmax(-1).to(type), states);
  });
  const double operations = 4.0 * static_cast<double>(rows * context * shape.width);
  const double bytes = static_cast<double>(states.nbytes());
  std::printf("%-12s %-9s %6ld %10.2f %10.0f %10.1f %10.2f %8.2f\n", shape.name,
              type == at::kFloat ? "float32" : "bfloat16", static_cast<long>(tokens), kernel * 1e3,
              operations / kernel / 1e9, bytes / kernel / 1e9, products * 1e3, products / kernel);
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t context = argc > 1 ? std::atoll(argv[1]) : 32768;
  if (context <= 0) {
    std::fprintf(stderr, "latent_attention_bench: expected a positive number of context tokens, found %s\n", argv[1]);
    return 1;
  }
  const c10::NoGradGuard no_gradients;
  std::printf("%ld context tokens\n%-12s %-9s %6s %10s %10s %10s %10s %8s\n", static_cast<long>(context), "shape",
              "type", "tokens", "kernel ms", "GFLOP/s", "GB/s", "products", "ratio");
  for (const Shape& shape : {Shape{"SmolLM2", 9, 576}, Shape{"Llama-2-7B", 32, 1024}}) {
    for (const auto type : {at::kFloat, at::kBFloat16}) {
      for (const int64_t tokens : {1, 4}) measure(shape, type, tokens, context);
    }
  }
}
