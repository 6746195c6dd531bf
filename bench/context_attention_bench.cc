// One layer's cross-attention on a CPU in its forms, beside LibTorch's attention: SmolLM2's and Llama-2-7B's shapes,
// few and many tokens. Where the rates of model/cost_model.cc come from.
//
//   build/bench/context_attention_bench [CONTEXT_TOKENS]
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>

#include "ops/context/context_attention.h"
#include "ops/latent/latent_attention.h"
#include "ops/ops.h"

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
  int64_t heads, kv_heads, head_dim, width;
};

void print(const char* what, int64_t tokens, double time, double operations, double bytes) {
  std::printf("  %-34s %4ld tokens %10.2f ms %8.0f GFLOP/s %8.1f GB/s\n", what, static_cast<long>(tokens), time * 1e3,
              operations / time / 1e9, bytes / time / 1e9);
}

void measure(const Shape& shape, at::ScalarType type, int64_t context) {
  at::manual_seed(1);
  const int64_t H = shape.heads, G = shape.kv_heads, K = shape.head_dim, E = shape.width, S = context;
  const at::Tensor states = at::randn({1, S, E}, type), weight = (at::randn({G * K, E}) / 30).to(type);
  std::printf("%s, %s\n", shape.name, toString(type));
  const double projected = 2.0 * static_cast<double>(S * E * G * K);
  at::Tensor keys;
  print("projection", S, seconds([&] { keys = at::linear(states, weight); }), projected,
        static_cast<double>(states.nbytes()));
  const at::Tensor k = keys.view({1, S, G, K}), v = k * 0.5;
  cepe::ContextKeysValues kept = cepe::make_context_keys_values({1, G, S, K}, k.options());
  print("keeping keys and values", S, seconds([&] { cepe::write_keys_values(kept, 0, k, v); }), 0,
        static_cast<double>(kept.bytes()));
  for (const int64_t tokens : {1, 4, 16, 64, 256}) {
    const at::Tensor q = at::randn({1, tokens, H, K}).to(type), moved = at::randn({1, tokens * H, E}).to(type) / 10;
    const double heads = 4.0 * static_cast<double>(S * tokens * H * K),
                 latent = 4.0 * static_cast<double>(S * tokens * H * E);
    const auto bytes = static_cast<double>(kept.bytes());
    print("absorbed", tokens, seconds([&] { cepe::latent_attention(moved, {states}, 0.1); }), latent,
          static_cast<double>(states.nbytes()));
    print("kept keys and values", tokens, seconds([&] { cepe::context_attention(q, kept, {}); }), heads, bytes);
    print("kept, LibTorch's in parts", tokens,
          seconds([&] { cepe::context_attention(q, kept, {}, cepe::ContextKernel::none); }), heads, bytes);
    print("LibTorch's attention", tokens, seconds([&] { cepe::attention(q, k, v, {}); }), heads, bytes);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t context = argc > 1 ? std::atoll(argv[1]) : 32768;
  if (context <= 0) {
    std::fprintf(stderr, "context_attention_bench: expected a positive number of context tokens, found %s\n", argv[1]);
    return 1;
  }
  const c10::NoGradGuard no_gradients;
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    measure({"SmolLM2, 9 and 3 heads of 64 on 576", 9, 3, 64, 576}, type, context);
    measure({"Llama-2-7B, 32 heads of 128 on 1024", 32, 32, 128, 1024}, type, context / 8);
  }
}
