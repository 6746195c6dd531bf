#include "train/objective.h"

#include <ATen/ATen.h>

#include <map>

#include "model/checkpoint/checkpoint.h"
#include "train/sample_shards.h"
#include "train/trainer_fixture.h"
#include "train/validation/sample_validation.h"

namespace cepe {
namespace {

// A sample worked out by itself, without padding: each chunk encoded alone, the logits of every position.
at::Tensor log_probs(const Cepe& model, const Sample& sample) {
  std::vector<at::Tensor> states;
  const int64_t* from = sample.tokens.data();
  const auto take = [&](int64_t count) {
    const at::Tensor ids = at::tensor(std::vector<int64_t>(from, from + count), at::kLong);
    from += count;
    return ids;
  };
  for (int64_t length : sample.chunks) {
    if (length > 0) states.push_back(encode(model, {take(length).view({1, 1, length}), {}}).states_BSE);
  }
  Latents latents;
  if (!states.empty()) latents.states_BSE = at::cat(states, 1);
  DecodeInput input;
  input.ids_BT = take(sample.positions()).unsqueeze(0);
  if (!states.empty()) input.context = &latents;
  return logits(model, decode(model, input))[0].log_softmax(-1);
}

std::vector<int64_t> labels_of(const Sample& sample) {
  return {sample.tokens.end() - sample.positions(), sample.tokens.end()};
}

at::Tensor loss_alone(const Cepe& model, const Sample& sample) {
  const at::Tensor labels = at::tensor(labels_of(sample), at::kLong), log_p = log_probs(model, sample);
  const at::Tensor losses = -log_p.gather(1, labels.unsqueeze(1)).squeeze(1);
  return sample.weights.empty() ? losses.sum() : (losses * at::tensor(sample.weights)).sum();
}

class ObjectiveTest : public TrainerTest {
 protected:
  ObjectiveTest() {
    OpenOptions options;
    opened_ = open_model(std::string(kPublished), options);
    const at::NoGradGuard no_grad;
    exact_ = cast(opened_.model, at::kDouble);
    config_ = job("run").config;
    config_.decoder_tokens = 100;
  }
  OpenedModel opened_;
  Cepe exact_;  // float64
  TrainConfig config_;
};

// Samples of every kind in one padded batch: without context, with chunks of all lengths, with a masked chunk, plain
// ones, short and long decoder parts (so that both forms of cross-attention are met). Loss and gradients are those of
// the samples by themselves.
TEST_F(ObjectiveTest, AMixedBatchIsTheSumOfItsSamples) {
  write_samples(directory_ / "ask.tokens", planned_samples(9));
  const Corpus corpus = open_corpus({(directory_ / "ask.tokens").string()}, ShardKind::samples);
  std::vector<Sample> samples;
  for (int64_t i = 0; i < 9; ++i) samples.push_back(read_sample(corpus, i, 1.5f));
  std::vector<int64_t> tokens(static_cast<size_t>(config_.span_tokens()));
  for (size_t t = 0; t < tokens.size(); ++t) tokens[t] = static_cast<int64_t>(t * t % 128);
  samples.push_back({{5, 6, 7, 8, 9, 10, 11, 12}, {3, 0}, {1, 0, 1, 0.5f}});
  for (bool with_plain : {false, true}) {
    if (with_plain) samples.push_back(plain_sample(config_, tokens.data(), 3));
    const Batch batch = lay_out(config_, samples);
    ASSERT_TRUE(batch.mask_BML.defined() && batch.encoded_R.defined() && batch.scored_N.defined());
    set_trainable(exact_, true);
    const at::Tensor together = NextToken().loss_sum(exact_, batch);
    const std::vector<at::Tensor> grads = gradients(exact_, together);
    at::Tensor sum = at::zeros({}, at::kDouble);
    double weight = 0;
    for (const Sample& sample : samples) {
      sum = sum + loss_alone(exact_, sample);
      if (sample.weights.empty()) weight += static_cast<double>(sample.positions());
      for (float w : sample.weights) weight += w;
    }
    EXPECT_NEAR(together.item<double>() / sum.item<double>(), 1, 1e-6);
    EXPECT_NEAR(batch.weight, weight, 1e-9);
    const std::vector<at::Tensor> expected = gradients(exact_, sum);
    ASSERT_EQ(grads.size(), expected.size());
    for (size_t i = 0; i < grads.size(); ++i) {
      const double scale = expected[i].abs().max().item<double>();
      EXPECT_LE((grads[i] - expected[i]).abs().max().item<double>(), 1e-6 * scale + 1e-9) << i;
    }
  }
}

TEST_F(ObjectiveTest, ABatchWithoutContextIsThePlainDecoder) {
  const Sample sample{{5, 6, 7, 8}, {}, {1, 1, 1}};
  const Batch batch = lay_out(config_, {sample});
  EXPECT_NEAR(NextToken().loss_sum(exact_, batch).item<double>(), loss_alone(exact_, sample).item<double>(), 1e-9);
}

// Validation worked out anew, sample by sample.
TEST_F(ObjectiveTest, SampleValidationIsWhatTheLogitsSay) {
  write_samples(directory_ / "ask.tokens", planned_samples(12));
  const Corpus corpus = open_corpus({(directory_ / "ask.tokens").string()}, ShardKind::samples);
  config_.validation_samples = 7;  // of two domains: four and three
  config_.decoder_tokens = 16;
  const std::vector<SampleRow> rows = SampleValidation(config_, corpus).run(exact_);
  ASSERT_GE(rows.size(), 3u);
  EXPECT_EQ(rows[0].domain, "chain");
  EXPECT_EQ(rows.back().domain, "all");
  size_t of_sizes = 0;
  const at::NoGradGuard no_grad;
  double all_loss = 0;
  int64_t all_tokens = 0;
  std::map<int64_t, int64_t> all_sizes, exact_of_all;
  for (int64_t d = 0; d < 2; ++d) {
    int64_t left = d == 0 ? 4 : 3, tokens = 0, exact = 0;
    double loss = 0;
    std::map<int64_t, int64_t> sizes, exact_of_size;  // samples whose chunks are 1, to 4, to 16
    const int64_t wanted = left;
    for (int64_t i = 0; i < 12; ++i) {
      if (corpus.documents[static_cast<size_t>(i)].domain != d || left-- <= 0) continue;
      const Sample sample = read_sample(corpus, i, 1);
      const at::Tensor log_p = log_probs(exact_, sample);
      const std::vector<int64_t> labels = labels_of(sample);
      bool right = true;
      for (size_t t = 0; t < labels.size(); ++t) {
        if (sample.weights[t] == 0) continue;
        loss -= log_p[static_cast<int64_t>(t)][labels[t]].item<double>();
        right = right && log_p[static_cast<int64_t>(t)].argmax().item<int64_t>() == labels[t];
        ++tokens;
      }
      exact += right;
      const size_t chunks = sample.chunks.size();
      const int64_t size = chunks <= 1 ? 1 : chunks <= 4 ? 4 : 16;
      ++sizes[size];
      exact_of_size[size] += right;
      ++all_sizes[size];
      exact_of_all[size] += right;
    }
    for (const SampleRow& row : rows) {
      if (!row.chunks || row.domain != rows[static_cast<size_t>(d)].domain) continue;
      EXPECT_EQ(row.samples, sizes[*row.chunks]);
      EXPECT_EQ(row.exact, static_cast<double>(exact_of_size[*row.chunks]) / static_cast<double>(row.samples));
      ++of_sizes;
      sizes.erase(*row.chunks);
    }
    EXPECT_LE(sizes.size(), 1u) << "a domain with several sizes has a row for each";
    EXPECT_EQ(rows[static_cast<size_t>(d)].samples, wanted);
    EXPECT_NEAR(rows[static_cast<size_t>(d)].loss, loss / static_cast<double>(tokens), 1e-5);
    EXPECT_EQ(rows[static_cast<size_t>(d)].exact, static_cast<double>(exact) / static_cast<double>(wanted));
    all_loss += loss;
    all_tokens += tokens;
  }
  EXPECT_GE(of_sizes, 2u);
  EXPECT_EQ(rows.size(), 3 + of_sizes + all_sizes.size());
  for (const SampleRow& row : rows) {
    if (!row.chunks || row.domain != "all") continue;
    EXPECT_EQ(row.samples, all_sizes[*row.chunks]);
    EXPECT_EQ(row.exact, static_cast<double>(exact_of_all[*row.chunks]) / static_cast<double>(row.samples));
    all_sizes.erase(*row.chunks);
  }
  EXPECT_TRUE(all_sizes.empty());
  EXPECT_NEAR(rows.back().loss, all_loss / static_cast<double>(all_tokens), 1e-5);
}

// Of ten samples four answer what the model itself finds most likely, token after token; of three others only the last
// token differs from that, of three only the first.
TEST_F(ObjectiveTest, ExactCountsAnswersThatAreWhollyTheMostLikely) {
  const at::NoGradGuard no_grad;
  {
    ShardWriter writer(directory_ / "ask.tokens", {128, 0}, ShardKind::samples);
    for (int64_t i = 0; i < 10; ++i) {
      const int64_t context = i % 3 * 4, question = 2 + i, decoder = question + 3;
      Sample sample{{}, std::vector<int64_t>(static_cast<size_t>(i % 3), 4), {}};
      for (int64_t t = 0; t < context + question; ++t) sample.tokens.push_back((17 * i + 5 * t * t) % 128);
      for (int64_t t = 0; t < 3; ++t) {
        sample.tokens.push_back(0);  // stands for the label, which is not read
        const int64_t likely = log_probs(exact_, sample)[-1].argmax().item<int64_t>();
        const bool wrong = (i >= 4 && i < 7 && t == 2) || (i >= 7 && t == 0);
        sample.tokens.back() = wrong ? (likely + 1) % 128 : likely;
      }
      std::vector<SamplePiece> pieces(sample.chunks.size(), {4, true, 0});
      pieces.push_back({decoder - 3, false, 0});
      pieces.push_back({3, false, 1});
      writer.add_sample(std::vector<TokenId>(sample.tokens.begin(), sample.tokens.end()), pieces, i % 2 ? "a" : "b");
    }
    writer.commit();
  }
  Corpus corpus = open_corpus({(directory_ / "ask.tokens").string()}, ShardKind::samples);
  config_.validation_samples = 10;
  const auto exact = [&] {
    std::vector<double> found;
    for (const SampleRow& row : SampleValidation(config_, corpus).run(exact_)) {
      if (!row.chunks) found.push_back(row.exact);
    }
    return found;
  };
  EXPECT_EQ(exact(), (std::vector<double>{0.4, 0.4, 0.4}));
  // A domain without samples takes no share: the one sample is of the next domain.
  corpus.domains.insert(corpus.domains.begin(), "0");
  for (Corpus::Document& document : corpus.documents) ++document.domain;
  config_.validation_samples = 1;
  EXPECT_EQ(exact(), (std::vector<double>{1, 1}));
}

}  // namespace
}  // namespace cepe
