// Many requests on a CUDA device: steps as graphs, tokens chosen in them, contexts through a table.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "generate/many_requests.h"
#include "model/fixtures.h"
#include "model/merged_projections.h"
#include "ops/cuda_device.h"
#include "speed/shapes.h"

namespace cepe {
namespace {

class CudaEngine : public testing::TestWithParam<at::ScalarType> {
 protected:
  void SetUp() override {
    require_cuda();
    at::manual_seed(29);
    model_ = random_model(small_config("smollm2-135m+1x2", 6, 2, 64), {.device = at::kCUDA, .dtype = GetParam()});
    exact_ = cast(model_, at::kDouble);
    merge_projections(model_);
  }
  std::shared_ptr<const Context> context(int64_t tokens) const {
    const at::Tensor states = at::randn({1, tokens, model_.config.encoder->hidden_size}, model_.any_weight().options());
    return std::make_shared<const Context>(Context{{.states_BSE = states}, {}});
  }
  std::vector<Job> jobs(int64_t count) const {
    const std::vector<std::shared_ptr<const Context>> shared{context(300), context(1700)};
    const auto own = [&](std::mt19937& random) { return context(1 + static_cast<int64_t>(random() % 900)); };
    return random_jobs(count, {.vocabulary = model_.config.decoder.vocab_size}, shared, own);
  }
  // Log-probabilities of a text's tokens by decode() of the whole, float64 on the CPU.
  at::Tensor by_decode(const Cepe& model, const Request& request, const std::vector<TokenId>& tokens) const {
    std::vector<int64_t> ids(request.prompt.begin(), request.prompt.end());
    ids.insert(ids.end(), tokens.begin(), tokens.end() - 1);
    Latents latents = request.context ? request.context->latents : Latents{};
    if (request.context) latents.states_BSE = latents.states_BSE.to(model.dtype());
    const at::Tensor hidden = decode(model, {.ids_BT = at::tensor(ids).unsqueeze(0).to(at::kCUDA),
                                             .context = &latents,
                                             .last = static_cast<int64_t>(tokens.size())});
    const at::Tensor all_TV = logits(model, hidden)[0].to(at::kDouble).log_softmax(-1).cpu();
    const std::vector<int64_t> chosen(tokens.begin(), tokens.end());
    return all_TV.gather(1, at::tensor(chosen).unsqueeze(1)).squeeze(1);
  }

  const at::NoGradGuard no_grad_;
  Cepe model_, exact_;
  NumberTokenizer tokenizer_{1000};
  EngineOptions options_{.sequences = 5, .capacity = 64, .prompt_tokens_a_step = 7};
};

// Every token's log-probability is as exact as decode() of the sequence's own text: each reads its own slot and its own
// context, whatever stands beside it.
TEST_P(CudaEngine, EachSequenceIsAsExactAsDecode) {
  std::vector<Job> all = jobs(64);
  for (Job& job : all) job.request.log_probabilities = 0;
  Engine engine(model_, tokenizer_, options_);
  const JobsRun run = run_jobs(engine, all);
  expect_idle(engine);
  EXPECT_EQ(run.most_writing, 5);
  double worst = 0;
  for (size_t i = 0; i < all.size(); ++i) {
    const Generation& made = run.results[i].made;
    EXPECT_EQ(run.results[i].ends, 1);
    EXPECT_NE(made.reason, StopReason::failed) << made.error;
    if (made.tokens.empty()) continue;
    ASSERT_EQ(made.log_probabilities.size(), made.tokens.size());
    std::vector<double> values;
    for (const TokenLogProbabilities& of : made.log_probabilities) values.push_back(of.chosen.log_probability);
    const at::Tensor exact = by_decode(exact_, all[i].request, made.tokens);
    const double found = (at::tensor(values, at::kDouble) - exact).abs().mean().item<double>();
    const double decoded = (by_decode(model_, all[i].request, made.tokens) - exact).abs().mean().item<double>();
    worst = std::max(worst, found);
    const bool wide = GetParam() == at::kFloat;
    EXPECT_LT(found, wide ? 1e-3 : 2 * decoded + 0.03) << "request " << i << ", decode() " << decoded;
  }
  fmt::print("log-probabilities of {}: at most {:.1e} off in a sequence's mean\n", c10::toString(GetParam()), worst);
}

// In float32 a batch's rounding changes hardly a token; in bfloat16 a near tie may fall otherwise, and the text goes on
// differently from there.
TEST_P(CudaEngine, EachGetsWhatItGetsAlone) {
  const std::vector<Job> all = jobs(64);
  const std::vector<long> owners = [&] {
    std::vector<long> counts;
    for (const Job& job : all) counts.push_back(job.request.context.use_count());
    return counts;
  }();
  Engine engine(model_, tokenizer_, options_);
  const JobsRun run = run_jobs(engine, all);
  expect_idle(engine);
  int64_t complete = 0, equal = 0, first = 0;
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(run.results[i].ends, 1);
    EXPECT_EQ(run.results[i].shown, run.results[i].made.text);
    EXPECT_EQ(all[i].request.context.use_count(), owners[i]);
    const Generation& made = run.results[i].made;
    if (made.reason == StopReason::cancelled) continue;
    const Generation expected = alone(model_, tokenizer_, all[i].request, options_);
    ++complete;
    equal += made.tokens == expected.tokens && made.text == expected.text && made.reason == expected.reason;
    first += made.tokens.empty() ? expected.tokens.empty()
                                 : !expected.tokens.empty() && made.tokens[0] == expected.tokens[0];
  }
  fmt::print("{}: {} of {} answers equal those made alone, {} in the first token\n", c10::toString(GetParam()), equal,
             complete, first);
  EXPECT_GE(complete, 40);
  if (GetParam() == at::kFloat) {
    EXPECT_GE(equal, complete - 1);
  } else {
    EXPECT_GE(first, complete * 3 / 4);
    EXPECT_GE(equal, complete / 3);
  }
}

// Requests that come at the same moments get the same texts in another engine.
TEST_P(CudaEngine, TheSameRunGivesTheSameTexts) {
  const std::vector<Job> all = jobs(24);
  Engine engine(model_, tokenizer_, options_), other(model_, tokenizer_, options_);
  const JobsRun once = run_jobs(engine, all), elsewhere = run_jobs(other, all);
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(once.results[i].made.tokens, elsewhere.results[i].made.tokens) << i;
  }
}

// One whose context is damaged fails, those beside it in the step do not.
TEST_P(CudaEngine, ADamagedContextFailsItsSequenceAlone) {
  std::vector<Generation> made(4);
  const auto whole = context(500);
  const auto damaged = std::make_shared<const Context>(Context{{.states_BSE = whole->latents.states_BSE.clone()}, {}});
  Engine engine(model_, tokenizer_, options_);
  for (size_t i = 0; i < made.size(); ++i) {
    engine.submit({.prompt = {5, 6, static_cast<TokenId>(i)},
                   .context = i == 1 ? damaged : whole,
                   .max_tokens = 12,
                   .on_end = [&made, i](const Generation& complete) { made[i] = complete; }});
  }
  for (int i = 0; i < 5; ++i) engine.step();
  at::Tensor states = damaged->latents.states_BSE;
  states.fill_(NAN);
  while (engine.step()) {
  }
  for (size_t i = 0; i < made.size(); ++i) {
    EXPECT_EQ(made[i].reason, i == 1 ? StopReason::failed : StopReason::max_tokens) << made[i].error;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, CudaEngine, testing::Values(at::kFloat, at::kBFloat16),
                         [](const auto& info) { return std::string(c10::toString(info.param)); });

}  // namespace
}  // namespace cepe
