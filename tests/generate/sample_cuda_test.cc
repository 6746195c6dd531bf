// The sampler on a CUDA device beside the one on the host: same options, same seed, same tokens.
#include <ATen/ATen.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAEvent.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "base/error.h"
#include "base/report.h"
#include "generate/generator.h"
#include "generate/number_tokenizer.h"
#include "generate/sampler.h"
#include "model/decode_step.h"
#include "ops/cuda_device.h"
#include "ops/step/captured_work.h"
#include "ops/step/sample.h"
#include "speed/shapes.h"

namespace cepe {
namespace {

const auto kOnDevice = at::TensorOptions().device(at::kCUDA);

std::span<const float> row_of(const at::Tensor& logits, int64_t row) {
  const at::Tensor values = logits[row];
  return {values.const_data_ptr<float>(), static_cast<size_t>(values.numel())};
}

class DeviceSampling : public testing::Test {
 protected:
  void SetUp() override { require_cuda(), at::manual_seed(41); }
};

SamplerOptions random_options(std::mt19937& random) {
  const auto uniform = [&](double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(random);
  };
  SamplerOptions options{.temperature = random() % 6 ? std::exp(uniform(-3, 2)) : 0, .seed = random()};
  if (random() % 2) options.top_k = 1 + static_cast<int64_t>(random() % 400);
  if (random() % 2) options.top_p = random() % 4 ? uniform(0.01, 1.0) : 1e-9;
  if (random() % 2) options.min_p = uniform(0.0, 0.5);
  if (random() % 2) options.repetition_penalty = uniform(0.7, 1.6);
  return options;
}

// Draws in a row, each of new logits, the chosen tokens being seen. A token may differ where the exponentials of host
// and device round a weight to different sides of a draw; a sequence's later tokens are compared all the same.
TEST_F(DeviceSampling, ChoosesWhatTheHostChooses) {
  std::mt19937 random(6);
  int64_t compared = 0, different = 0;
  for (const auto& [V, vocabulary] :
       {std::pair<int64_t, int64_t>{7, 7}, {1000, 993}, {32000, 32000}, {152064, 151669}}) {
    for (int round = 0; round < 6; ++round) {
      constexpr int64_t B = 16;
      DeviceSampler device(at::kCUDA, B, vocabulary);
      std::vector<Sampler> host;
      for (int64_t b = 0; b < B; ++b) {
        const SamplerOptions options = random_options(random);
        std::vector<TokenId> seen;
        for (int i = 0; i < 50; ++i) seen.push_back(static_cast<TokenId>(random() % vocabulary));
        device.set(b, options, seen);
        host.emplace_back(options).observe(seen);
      }
      for (int step = 0; step < 4; ++step) {
        // Rounded logits have ties; bfloat16 has them by itself.
        at::Tensor logits = (at::randn({B, V}) * (round % 3 + 0.5)).round(round % 2 ? 1 : 6);
        logits[0].fill_(-INFINITY)[V / 2] = 1.5;
        logits[1].fill_(0.25);
        if (round >= 3) logits = logits.to(at::kBFloat16);
        const at::Tensor ids = at::zeros({B}, kOnDevice.dtype(at::kLong));
        device.sample(logits.to(at::kCUDA), ids);
        const at::Tensor found = ids.cpu(), wide = logits.to(at::kFloat).contiguous();
        EXPECT_EQ(device.failed_B().sum().item<int64_t>(), 0);
        for (int64_t b = 0; b < B; ++b, ++compared) {
          different += found[b].item<int64_t>() != host[b].sample(row_of(wide, b).first(vocabulary));
        }
      }
    }
  }
  std::printf("%ld of %ld tokens differ\n", static_cast<long>(different), static_cast<long>(compared));
  EXPECT_GE(compared, 1500);
  EXPECT_LE(different, 2);
}

TEST_F(DeviceSampling, AGraphDrawsAnewEachTime) {
  const int64_t B = 3, V = 5, draws = 20000;
  const at::Tensor logits = at::tensor({0.0f, 1.0f, 2.0f, -1.0f, 0.5f}).to(at::kCUDA).repeat({B, 1});
  const at::Tensor ids = at::zeros({B}, kOnDevice.dtype(at::kLong)),
                   counts = at::zeros({B, V}, kOnDevice.dtype(at::kLong));
  const at::Tensor ones = at::ones({B, 1}, counts.options());
  DeviceSampler sampler(at::kCUDA, B, V);
  for (int64_t b = 0; b < B; ++b) sampler.set(b, {.temperature = 1.0, .seed = b < 2 ? 3u : 4u});
  CapturedWork work(at::kCUDA, true, [&] {
    sampler.sample(logits, ids);
    counts.scatter_add_(1, ids.unsqueeze(1), ones);
  });
  for (int64_t i = 0; i < draws; ++i) work.run();
  const at::Tensor expected = logits[0].softmax(0).cpu() * draws, found = counts.cpu().to(at::kFloat);
  EXPECT_TRUE(found[0].equal(found[1]));
  EXPECT_FALSE(found[0].equal(found[2]));
  for (int64_t b = 0; b < B; ++b) {
    EXPECT_LT(((found[b] - expected).square() / expected).sum().item<double>(), 18.5);  // exceeded once in a thousand
  }
}

TEST_F(DeviceSampling, SaysWhenLogitsAreDamaged) {
  const at::Tensor logits = at::zeros({4, 100}, kOnDevice.dtype(at::kFloat));
  logits[1][7] = NAN, logits[2][99] = INFINITY;
  logits[3].fill_(-INFINITY);
  const at::Tensor ids = at::full({4}, 55, kOnDevice.dtype(at::kLong));
  DeviceSampler sampler(at::kCUDA, 4, 100);
  sampler.set(2, {.temperature = 1.0});
  sampler.sample(logits, ids);
  EXPECT_TRUE(sampler.failed_B().cpu().equal(at::tensor({0, 1, 1, 1}, at::kInt)));
  EXPECT_EQ(ids.sum().item<int64_t>(), 0);
  sampler.set(1, {});
  EXPECT_EQ(sampler.failed_B()[1].item<int>(), 0);
}

TEST_F(DeviceSampling, RefusesWhatDoesNotFit) {
  DeviceSampler sampler(at::kCUDA, 2, 100);
  const at::Tensor ids = at::zeros({2}, kOnDevice.dtype(at::kLong));
  EXPECT_THROW(sampler.set(2, {}), Error);
  EXPECT_THROW(sampler.set(0, {.temperature = -1.0}), Error);
  EXPECT_THROW(sampler.set(0, {}, std::vector<int32_t>{100}), Error);
  EXPECT_THROW(sampler.sample(at::zeros({2, 99}, kOnDevice), ids), Error);
  EXPECT_THROW(sampler.sample(at::zeros({2, 100}), ids), Error);
  EXPECT_THROW(DeviceSampler(at::kCPU, 2, 100), Error);
}

// Rows of one sampler: some of them at a time, and a sequence that goes on in another row.
TEST_F(DeviceSampling, RowsKeepTheirDrawsWhereverTheyAre) {
  constexpr int64_t B = 5, V = 900;
  DeviceSampler device(at::kCUDA, B, V);
  std::vector<Sampler> host;
  std::mt19937 random(8);
  for (int64_t b = 0; b < B; ++b) {
    SamplerOptions options = random_options(random);
    options.temperature = 1, options.repetition_penalty = 1.2;
    device.set(b, options);
    host.emplace_back(options);
  }
  const auto draw = [&](int64_t first, int64_t count) {
    const at::Tensor logits = at::randn({count, V}), ids = at::zeros({count}, kOnDevice.dtype(at::kLong));
    device.sample(logits.to(at::kCUDA), ids, first);
    for (int64_t i = 0; i < count; ++i) {
      EXPECT_EQ(ids[i].item<int64_t>(), host[static_cast<size_t>(first + i)].sample(row_of(logits, i))) << first + i;
    }
  };
  draw(0, 5), draw(0, 2), draw(3, 1), draw(0, 4);
  device.move(4, 1), host[1] = host[4];
  device.move(3, 3);
  draw(0, 2), draw(1, 3), draw(1, 1);
  EXPECT_THROW(device.sample(at::zeros({2, V}, kOnDevice), at::zeros({2}, kOnDevice.dtype(at::kLong)), 4), Error);
  EXPECT_THROW(device.move(0, 5), Error);
}

// An engine's tokens, chosen in the step's graph, and those that the host chooses from a step's logits.
TEST_F(DeviceSampling, AnEngineWritesWhatTheHostWouldChoose) {
  const at::NoGradGuard no_gradients;
  const Cepe model = random_model(shape_config("smollm2-135m"), {.device = at::kCUDA, .dtype = at::kBFloat16});
  const std::vector<TokenId> prompt{5, 900, 31, 77, 4};
  const NumberTokenizer tokenizer(model.config.decoder.vocab_size - 3);
  const auto vocabulary = static_cast<size_t>(tokenizer.vocabulary_size());
  for (const SamplerOptions& options : {SamplerOptions{.temperature = 0.9, .top_k = 50, .top_p = 0.9, .seed = 12},
                                        SamplerOptions{.repetition_penalty = 1.3}, SamplerOptions{}}) {
    const Generation made = generate({model, tokenizer, prompt}, {.max_tokens = 40, .sampling = options});
    Sampler sampler(options);
    sampler.observe(prompt);
    KeyValueCache cache = make_cache(model.decoder.stack, 1, 45);
    const std::vector<int64_t> ids(prompt.begin(), prompt.end());
    at::Tensor found = logits(
        model, decode(model, {.ids_BT = at::tensor(ids).unsqueeze(0).to(at::kCUDA), .cache = &cache, .last = 1}));
    DecodeStep step(model, cache);
    for (size_t i = 0; i < made.tokens.size(); ++i) {
      const at::Tensor on_host = found.reshape({1, -1}).to(at::kCPU, at::kFloat);
      const int64_t chosen = sampler.sample(row_of(on_host, 0).first(vocabulary)), position = cache.length++;
      ASSERT_EQ(made.tokens[i], chosen) << i;
      if (i + 1 == made.tokens.size()) break;
      step.place({&chosen, 1}, {&position, 1});
      found = step.run();
    }
    EXPECT_EQ(made.tokens.size(), 40u);
  }
}

TEST_F(DeviceSampling, Times) {
  for (const int64_t V : {32000, 152064}) {
    for (const int64_t B : {1, 16}) {
      const at::Tensor logits = (at::randn({B, V}, kOnDevice.dtype(at::kFloat)) * 2).to(at::kBFloat16);
      const at::Tensor ids = at::zeros({B}, kOnDevice.dtype(at::kLong));
      DeviceSampler sampler(at::kCUDA, B, V);
      const auto time = [&](std::function<void()> work) {
        CapturedWork graph(at::kCUDA, true, [&] {
          for (int i = 0; i < 20; ++i) work();
        });
        for (int i = 0; i < 3; ++i) graph.run();
        at::cuda::CUDAEvent start(cudaEventDefault), end(cudaEventDefault);
        start.record(), graph.run(), end.record(), end.synchronize();
        return start.elapsed_time(end) / 20 * 1e3;
      };
      const double argmax = time([&] { at::argmax_out(const_cast<at::Tensor&>(ids), logits, -1); });
      const double greedy = time([&] { sampler.sample(logits, ids); });
      for (int64_t b = 0; b < B; ++b) sampler.set(b, {.temperature = 0.8, .min_p = 0.02});
      const double plain = time([&] { sampler.sample(logits, ids); });
      for (int64_t b = 0; b < B; ++b) sampler.set(b, {.temperature = 0.8, .top_k = 50, .top_p = 0.9});
      const double all = time([&] { sampler.sample(logits, ids); });
      const double library = time([&] {
        const auto [sorted, order] = (logits.to(at::kFloat) / 0.8).sort(-1, true);
        const at::Tensor p = sorted.narrow(1, 0, 50).softmax(-1), before = p.cumsum(-1) - p;
        const at::Tensor kept = p.masked_fill(before.ge(0.9), 0), running = kept.cumsum(-1);
        const at::Tensor at = running.lt(running.select(1, 49).unsqueeze(1) * 0.37).sum(-1, true);
        ids.copy_(order.gather(1, at).squeeze(1));
      });
      Sampler on_host({.temperature = 0.8, .top_k = 50, .top_p = 0.9});
      const double started = seconds_now();
      const at::Tensor brought = logits.to(at::kFloat).cpu();
      for (int64_t b = 0; b < B; ++b) on_host.sample(row_of(brought, b));
      const double host = (seconds_now() - started) * 1e6;
      std::printf(
          "%6ld tokens, %2ld rows: greedy %.1f us (argmax %.1f), temperature and min-p %.1f, top-k and top-p %.1f; "
          "LibTorch's sort and sums %.1f, the host %.0f\n",
          static_cast<long>(V), static_cast<long>(B), greedy, argmax, plain, all, library, host);
      EXPECT_LT(all, host);
    }
  }
}

}  // namespace
}  // namespace cepe
