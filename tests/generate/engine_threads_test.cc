// Requests from several threads while one thread steps. Also built with the thread sanitizer (CEPE_THREAD_SANITIZER).
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <thread>

#include "generate/many_requests.h"
#include "model/fixtures.h"

namespace cepe {
namespace {

TEST(EngineThreads, SubmitAndCancelWhileOneSteps) {
  constexpr int kThreads = 4, kEach = 8;
  const at::NoGradGuard no_gradients;
  const Cepe model = open_fixture("cepe-mha", at::kDouble).model;
  const NumberTokenizer tokenizer(model.config.decoder.vocab_size);
  const at::Tensor ids = at::arange(48, at::kLong).view({1, 3, 16});
  const auto context = std::make_shared<const Context>(Context{encode(model, {ids, {}}), {}});
  const EngineOptions options{.sequences = 3, .capacity = 32, .prompt_tokens_a_step = 5};
  const auto request = [&](int thread, int i) {
    return Request{.prompt = {thread, i, 7},
                   .context = i % 2 ? context : nullptr,
                   .max_tokens = 4 + i,
                   .sampling = {.temperature = 1, .seed = static_cast<uint64_t>(100 * thread + i)}};
  };
  std::map<std::pair<int, int>, Generation> made;  // touched by the stepping thread alone
  std::atomic<int> ended = 0;
  Engine engine(model, tokenizer, options);
  const auto submit_some = [&](int thread) {
    for (int i = 0; i < kEach; ++i) {
      Request asked = request(thread, i);
      asked.on_end = [&, thread, i](const Generation& complete) {
        EXPECT_TRUE(made.emplace(std::pair{thread, i}, complete).second) << "on_end once";
        ++ended;
      };
      const SequenceId id = engine.submit(std::move(asked));
      if (i % 4 == 3) engine.cancel(id);
      EXPECT_LE(engine.counts().writing, 3);
    }
  };
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) threads.emplace_back(submit_some, thread);
  while (ended < kThreads * kEach) engine.step();
  for (std::thread& thread : threads) thread.join();
  for (const auto& [which, found] : made) {
    const Generation expected = alone(model, tokenizer, request(which.first, which.second), options);
    if (found.reason == StopReason::cancelled) {
      EXPECT_EQ(which.second % 4, 3);
      EXPECT_TRUE(expected.text.starts_with(found.text));
    } else {
      EXPECT_EQ(found.tokens, expected.tokens);
    }
  }
  expect_idle(engine);
}

}  // namespace
}  // namespace cepe
