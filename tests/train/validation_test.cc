#include "train/validation/validation.h"

#include <ATen/ATen.h>

#include <cmath>

#include "model/checkpoint/checkpoint.h"
#include "train/trainer_fixture.h"

namespace cepe {
namespace {

// Validation worked out anew: samples laid out by hand, losses from the logits in float64. Documents are as long as a
// sample, so that each holds one; domain b has a single document and no other one.
TEST_F(TrainerTest, ValidationIsWhatTheLogitsSay) {
  const int64_t chunks = 3, L = 8, T = 16, span = chunks * L + T + 1;
  const CorpusPlan plan{128, {span, span, span}, {"a", "b"}};
  write_corpus(directory_ / "valid.tokens", plan);
  OpenOptions options;
  const Cepe model = open_model(std::string(kPublished), options).model, exact = cast(model, at::kDouble);
  TrainConfig config = job("run").config;
  config.micro_batch = 4;
  config.validation_samples = 13;
  const Corpus corpus = open_corpus({(directory_ / "valid.tokens").string()});
  const std::vector<ValidationRow> rows = Validation(config, corpus).run(model);

  const at::NoGradGuard no_grad;
  const auto ids_of = [&](int64_t document, int64_t first, int64_t count) {
    at::Tensor ids = at::empty({1, count}, at::kLong);
    for (int64_t t = 0; t < count; ++t) ids[0][t] = planned_token(plan, document, first + t);
    return ids;
  };
  // Mean of -log p over the T labels of a document's end, with the context of another (-1: none).
  const auto loss = [&](int64_t document, int64_t context) {
    Latents latents;
    if (context >= 0) latents = encode(exact, {ids_of(context, 0, chunks * L).view({1, chunks, L}), {}});
    DecodeInput input;
    input.ids_BT = ids_of(document, chunks * L, T);
    if (context >= 0) input.context = &latents;
    const at::Tensor log_p = logits(exact, decode(exact, input)).log_softmax(-1)[0];
    double sum = 0;
    for (int64_t t = 0; t < T; ++t) sum -= log_p[t][planned_token(plan, document, chunks * L + t + 1)].item<double>();
    return sum / static_cast<double>(T);
  };
  ASSERT_EQ(rows.size(), 3u);
  const ValidationRow &a = rows[0], &b = rows[1], &all = rows[2];
  EXPECT_EQ(a.samples, 7);
  EXPECT_EQ(b.samples, 6);
  EXPECT_NEAR(b.own, loss(1, 1), 1e-5);
  EXPECT_NEAR(b.none, loss(1, -1), 1e-5);
  EXPECT_FALSE(b.other.has_value());
  // Which of a's documents, 0 and 2, each sample is, is drawn: their number follows from one mean and fits the others.
  const double first = (7 * a.none - 7 * loss(2, -1)) / (loss(0, -1) - loss(2, -1)), n = std::round(first);
  EXPECT_NEAR(first, n, 1e-2);
  EXPECT_GT(n, 0);
  EXPECT_LT(n, 7);
  EXPECT_NEAR(a.own, (n * loss(0, 0) + (7 - n) * loss(2, 2)) / 7, 1e-5);
  ASSERT_TRUE(a.other.has_value());
  EXPECT_NEAR(*a.other, (n * loss(0, 2) + (7 - n) * loss(2, 0)) / 7, 1e-5);
  EXPECT_NEAR(*a.reading_gain(), 1 - std::exp(a.own) / std::exp(*a.other), 1e-12);
  EXPECT_NEAR(all.own, (7 * a.own + 6 * b.own) / 13, 1e-12);
  EXPECT_NEAR(all.none, (7 * a.none + 6 * b.none) / 13, 1e-12);
  EXPECT_EQ(all.samples, 13);
  EXPECT_FALSE(all.other.has_value());
}

}  // namespace
}  // namespace cepe
