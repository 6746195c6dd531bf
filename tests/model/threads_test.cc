// One model, many threads: a const Cepe is not changed by encoding and decoding.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <thread>

#include "base/error.h"
#include "model/fixtures.h"

namespace cepe {
namespace {

constexpr int kThreads = 4;

// Runs work(i) in a thread each, at the same time.
void in_threads(const std::function<void(int)>& work) {
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&work, i] {
      const at::NoGradGuard no_grad;
      work(i);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// A context of 3 chunks and a text, both of lengths that differ from thread to thread, so that each asks for other
// rotary tables: the text at once, then token by token with a cache.
std::vector<at::Tensor> encode_and_decode(const Cepe& model, int which) {
  const int64_t V = model.config.decoder.vocab_size, T = 20 + 7 * which, L = 8 + 2 * which;
  const at::Tensor ids = at::arange(which, which + 2 * T, at::kLong).mul(37).remainder(V).view({2, T});
  const at::Tensor chunks = at::arange(which, which + 6 * L, at::kLong).mul(31).remainder(V).view({2, 3, L});
  const Latents context = model.encoder ? encode(model, {chunks, {}}) : Latents{};
  const at::Tensor whole = decode(model, {ids, &context});
  KeyValueCache cache = make_cache(model.decoder.stack, 2, T);
  std::vector<at::Tensor> parts;
  for (int64_t t = 0; t < T; ++t) parts.push_back(decode(model, {ids.narrow(1, t, 1), &context, &cache}));
  return {whole, at::cat(parts, 1)};
}

// dynamic makes other frequencies for every length beyond its window of 32.
TEST(Threads, OneModelEncodesAndDecodesInAllOfThem) {
  for (const char* name : {"cepe-mha", "families/llama-dynamic"}) {
    std::vector<std::vector<at::Tensor>> alone(kThreads), together(kThreads);
    for (int i = 0; i < kThreads; ++i) {
      const Cepe model = open_fixture(name).model;
      in_threads([&](int thread) {
        if (thread == 0) alone[i] = encode_and_decode(model, i);
      });
    }
    const Cepe model = open_fixture(name).model;
    in_threads([&](int i) { together[i] = encode_and_decode(model, i); });
    for (int i = 0; i < kThreads; ++i) {
      for (size_t k = 0; k < alone[i].size(); ++k)
        EXPECT_TRUE(at::equal(alone[i][k], together[i][k])) << name << i << k;
    }
  }
}

TEST(Threads, ParametersMakeNoModules) {
  Cepe model;
  model.config = open_fixture("cepe-mha").model.config;
  EXPECT_THROW(parameters(model), Error);
  create_modules(model);
  EXPECT_FALSE(parameters(model).empty());
}

}  // namespace
}  // namespace cepe
