// Stage mlm: masks, the loss against what the published code recorded, runs, and what a warm-up takes from them.
#include "model/masked_lm/masked_lm.h"

#include <ATen/ATen.h>

#include <map>
#include <set>

#include "io/safetensors.h"
#include "model/checkpoint/checkpoint.h"
#include "model/checkpoint/masked_lm_checkpoint.h"
#include "train/samples/masked_piece.h"
#include "train/stages/masked_lm_model.h"
#include "train/trainer_fixture.h"

namespace cepe {
namespace {

const char* const kMlm = CEPE_TEST_DATA "/mlm";  // of the published code: LlamaForMLM, 2 layers, 128 tokens

at::Tensor recorded(const SafetensorsFile& file, const std::string& name) {
  const TensorView& view = *file.find(name);
  at::Tensor out = at::empty(view.shape, view.dtype == DType::i64 ? at::kLong : at::kFloat);
  std::memcpy(out.data_ptr(), view.bytes.data(), view.bytes.size());
  return out;
}

class MaskedLmTest : public TrainerTest {
 protected:
  TrainJob mlm_job(const std::string& name) const {
    TrainJob run = job(name, "");
    TrainConfig& c = run.config;
    c.stage = Stage::mlm;
    c.chunk_length = 32;
    c.encoder_layers = 2;
    c.mlm_hidden_size = 24;
    c.mlm_heads = 2;
    c.mlm_intermediate_size = 40;
    c.mlm_positions = 64;
    c.keep_checkpoints = 9;
    return run;
  }
};

TEST(MaskedPiece, DrawsEachPositionByItsKey) {
  std::vector<int64_t> piece(200);
  for (size_t i = 0; i < piece.size(); ++i) piece[i] = static_cast<int64_t>(3 * i % 97);
  double masked = 0;
  std::set<std::vector<float>> all;
  for (uint64_t n = 0; n < 50; ++n) {
    const Sample sample = masked_piece(piece, 0.3, {7, 1, n});
    EXPECT_TRUE(sample.chunks.empty());
    EXPECT_EQ(sample.positions(), 200);
    EXPECT_EQ((std::vector<int64_t>(sample.tokens.begin() + 1, sample.tokens.end())), piece);
    EXPECT_EQ(sample.weights, masked_piece(piece, 0.3, {7, 1, n}).weights);
    for (float weight : sample.weights) {
      EXPECT_TRUE(weight == 0 || weight == 1);
      masked += weight;
    }
    all.insert(sample.weights);
  }
  EXPECT_EQ(all.size(), 50u);
  EXPECT_NEAR(masked / (50 * 200), 0.3, 0.02);  // four standard deviations
  all.insert(masked_piece(piece, 0.3, {8, 1, 0}).weights);
  all.insert(masked_piece(piece, 0.3, {7, 2, 0}).weights);
  EXPECT_EQ(all.size(), 52u);
  for (uint64_t n = 0; n < 20; ++n) {
    double one = 0;
    for (float weight : masked_piece(piece, 1e-12, {1, 1, n}).weights) one += weight;
    EXPECT_EQ(one, 1);
  }
}

// The published code's loss and gradients, the labels of -100 being those that are not masked.
TEST_F(MaskedLmTest, TheLossIsThePublishedOne) {
  const SafetensorsFile expected(std::string(kMlm) + "/expected.safetensors");
  MaskedLm model = open_masked_lm(kMlm);
  for (const Parameter& parameter : parameters(model)) parameter.value->set_requires_grad(true);
  const at::Tensor labels = recorded(expected, "labels").view(-1), masked = labels.ge(0).nonzero().view(-1);
  const MaskedTokens tokens{recorded(expected, "input_ids"), masked, labels.index_select(0, masked),
                            recorded(expected, "attention_mask").to(at::kBool)};
  const at::Tensor loss = masked_lm_loss_sum(model, tokens) / masked.numel();
  EXPECT_NEAR(loss.item<double>() / recorded(expected, "loss").item<double>(), 1, 1e-5);
  EXPECT_NEAR(masked_lm_scores(model, tokens).loss_N.mean().item<double>(), loss.item<double>(), 1e-5);
  loss.backward();
  size_t compared = 0;
  for (const Parameter& parameter : parameters(model)) {
    if (!expected.find("grad." + parameter.name)) continue;
    const at::Tensor right = recorded(expected, "grad." + parameter.name), difference = parameter.value->grad() - right;
    EXPECT_LE(difference.norm().item<double>(), 2e-5 * right.norm().item<double>()) << parameter.name;
    ++compared;
  }
  EXPECT_GT(compared, 10u);
}

// A step's batches worked out anew: what the model reads, and the loss from whole logits in float64.
TEST_F(MaskedLmTest, ABatchMasksWhatItScores) {
  TrainConfig config = mlm_job("run").config;
  config.batch = config.micro_batch = 3;
  const Corpus corpus = open_corpus(config.train), none;
  const BatchBuilder builder(config, corpus, none);
  const std::vector<Batch> batches = builder.build(5).batches;
  ASSERT_EQ(batches.size(), 1u);
  const Batch& batch = batches[0];
  EXPECT_EQ(batch.tokens(), 3 * 32);
  const MaskedTokens tokens = masked_tokens(batch, 128);
  const at::Tensor own = batch.decoder_BT1.narrow(1, 1, 32), read = tokens.ids_BL;
  EXPECT_EQ(read.eq(128).sum().item<double>(), batch.weight);
  EXPECT_EQ(read.ne(own).sum().item<double>(), batch.weight);
  for (int64_t b = 0; b < 3; ++b) {  // pieces are texts of the corpus, whose tokens count up
    for (int64_t t = 1; t < 32; ++t) EXPECT_EQ(own[b][t].item<int64_t>(), (own[b][t - 1].item<int64_t>() + 1) % 128);
  }
  StackConfig sizes = open_masked_lm(kMlm).stack.config;
  sizes.vocab_size = 129;
  sizes.tie_embeddings = true;
  const MaskedLm model = random_masked_lm(sizes, 3, at::kCPU);
  EXPECT_TRUE(model.head.is_same(model.stack.embedding));
  const at::Tensor log_p = masked_lm_logits(cast(model, at::kDouble), read, {}).log_softmax(-1);
  const at::Tensor picked = log_p.gather(2, own.unsqueeze(-1)).squeeze(-1);
  const double sum = -(picked * read.eq(128)).sum().item<double>();
  EXPECT_NEAR(masked_lm_loss_sum(model, tokens).item<double>() / sum, 1, 1e-5);
  const TokenScores scores = masked_lm_scores(model, tokens);
  const at::Tensor right = log_p.argmax(-1).eq(own).logical_and(read.eq(128));
  EXPECT_EQ(scores.right_N.sum().item<int64_t>(), right.sum().item<int64_t>());
}

// Differences of the loss in float64, along one direction of every tensor; the embedding is the head as well.
TEST_F(MaskedLmTest, GradientsAgreeWithDifferences) {
  TrainConfig config = mlm_job("run").config;
  const Corpus corpus = open_corpus(config.train), none;
  const MaskedTokens tokens = masked_tokens(BatchBuilder(config, corpus, none).build(0).batches[0], 128);
  StackConfig sizes = open_masked_lm(kMlm).stack.config;
  sizes.vocab_size = 129;
  sizes.tie_embeddings = true;
  MaskedLm model = cast(random_masked_lm(sizes, 4, at::kCPU), at::kDouble);
  at::manual_seed(1);
  for (const Parameter& parameter : parameters(model)) {
    parameter.value->add_(at::randn(parameter.shape, at::kDouble), 0.1);  // biases and norms off their beginnings
    parameter.value->set_requires_grad(true);
  }
  masked_lm_loss_sum(model, tokens).backward();
  const at::NoGradGuard no_grad;
  for (const Parameter& parameter : parameters(model)) {
    const at::Tensor direction = at::randn(parameter.shape, at::kDouble);
    const double step = 1e-6, expected = (parameter.value->grad() * direction).sum().item<double>();
    parameter.value->add_(direction, step);
    const double above = masked_lm_loss_sum(model, tokens).item<double>();
    parameter.value->sub_(direction, 2 * step);
    const double below = masked_lm_loss_sum(model, tokens).item<double>();
    parameter.value->add_(direction, step);
    EXPECT_NEAR((above - below) / (2 * step), expected, 1e-4 * (1 + std::abs(expected))) << parameter.name;
  }
}

TEST_F(MaskedLmTest, ARunLearnsAndIsWrittenAsPublished) {
  TrainJob run = mlm_job("run");
  run.config.steps = 500;
  run.config.learning_rate = 1e-2;
  run.config.checkpoint_every = 0;
  EXPECT_TRUE(train(run).finished);
  const std::vector<nlohmann::json> records = log(run);
  const double first = records[0]["loss"], last = records[499]["loss"];
  EXPECT_NEAR(first, std::log(129), 0.3);
  EXPECT_LT(last, 0.5 * first);
  const nlohmann::json all = records[500]["text_validation"].back();
  EXPECT_EQ(all["domain"], "all");
  EXPECT_GT(all["accuracy"].get<double>(), 0.2);  // processors round differently; chance is 1 of 129
  // The layout of the published checkpoint: the fixture's names, but for the head, which is tied.
  std::set<std::string> names, published;
  const SafetensorsFile written(run.run / "final/model.safetensors"), fixture(std::string(kMlm) + "/model.safetensors");
  for (const TensorView& view : written.tensors()) names.insert(view.name);
  for (const TensorView& view : fixture.tensors()) published.insert(view.name);
  published.erase("lm_head.weight");
  EXPECT_EQ(names, published);
  const nlohmann::json config = nlohmann::json::parse(read_file(run.run / "final/config.json"));
  EXPECT_EQ(config["architectures"], nlohmann::json::array({"LlamaForMLM"}));
  EXPECT_EQ(config["vocab_size"], 129);
  EXPECT_EQ(config["is_decoder"], false);
  EXPECT_EQ(config["tie_word_embeddings"], true);
  EXPECT_EQ(config["training"]["mask_token_id"], 128);
  EXPECT_NE(error_of<Error>([&] { open_model(run.run / "final"); }).find("(LlamaForMLM), expected one that writes"),
            std::string::npos);
  // Read back, it has the validation's loss: what was written is what was validated.
  run.config.encoder = (run.run / "final").string();
  run.config.learning_rate = 0;
  run.config.steps = 1;
  run.run = directory_ / "again";
  train(run);
  EXPECT_NEAR(log(run).back()["text_validation"].back()["loss"].get<double>(), all["loss"].get<double>(), 1e-6);
}

TEST_F(MaskedLmTest, ARunGoesOnBitForBit) {
  TrainJob whole = mlm_job("whole"), stopped = mlm_job("stopped");
  train(whole);
  train(stopped);
  for (const char* later : {"step-000008", "step-000012", "final"}) fs::remove_all(stopped.run / later);
  const std::string expected = final_hash(whole);
  EXPECT_TRUE(train(stopped).finished);
  EXPECT_EQ(final_hash(stopped), expected);
  stopped.config.mlm_mask_share = 0.4;
  EXPECT_NE(refusal(stopped).find("mlm.mask_share"), std::string::npos);
}

TEST_F(MaskedLmTest, BeginsAsADecodersFirstLayers) {
  TrainJob run = mlm_job("run");
  run.config.base = kPlain;
  run.config.mlm_hidden_size = 0;
  run.config.encoder_layers = 1;
  run.config.learning_rate = 0;
  run.config.steps = 1;
  train(run);
  Cepe decoder = open_model(std::string(kPlain)).model;
  MaskedLm encoder = open_masked_lm(run.run / "final");
  EXPECT_EQ(encoder.stack.config.num_layers, 1);
  EXPECT_EQ(encoder.stack.config.max_positions, 64);
  EXPECT_EQ(encoder.stack.config.vocab_size, 129);
  EXPECT_TRUE(at::equal(encoder.stack.embedding.narrow(0, 0, 128), decoder.decoder.stack.embedding));
  EXPECT_TRUE(at::equal(encoder.stack.layers[0].self_attention.q.weight,
                        decoder.decoder.stack.layers[0].self_attention.q.weight));
  EXPECT_TRUE(at::equal(encoder.stack.norm, decoder.decoder.stack.norm));
  // An id of the vocabulary as the mask token: no row more.
  run.config.mlm_mask_token = 5;
  run.run = directory_ / "five";
  train(run);
  EXPECT_EQ(open_masked_lm(run.run / "final").stack.config.vocab_size, 128);
}

// mlm -> warmup -> standard: the warm-up begins with the encoder and trains it, the result goes on.
TEST_F(MaskedLmTest, AWarmUpTakesTheEncoder) {
  TrainJob mlm = mlm_job("mlm");
  mlm.config.mlm_hidden_size = 16;
  train(mlm);
  TrainJob warmup = job("warmup");
  warmup.config.stage = Stage::warmup;
  warmup.config.context_chunks = {2};
  warmup.config.encoder = (mlm.run / "final").string();
  warmup.config.learning_rate = 0;
  train(warmup);
  OpenOptions options;
  options.base = kPlain;
  const OpenedModel opened = open_model(warmup.run / "final", options);
  EXPECT_EQ(opened.model.config.encoder_embeddings, EncoderEmbeddings::own);
  EXPECT_EQ(opened.training["parts"]["path"], warmup.config.encoder);
  MaskedLm encoder = open_masked_lm(mlm.run / "final");
  EXPECT_TRUE(at::equal(opened.model.encoder->stack.embedding, encoder.stack.embedding));
  EXPECT_TRUE(at::equal(opened.model.encoder->stack.layers[1].feed_forward.up.weight,
                        encoder.stack.layers[1].feed_forward.up.weight));
  const Layer& last = opened.model.decoder.stack.layers.back();
  EXPECT_TRUE(at::equal(last.cross_attention->k.weight, last.self_attention.k.weight.narrow(1, 0, 16)));
  // Another encoder under the same name is not what the run began with.
  save_masked_lm(encoder, mlm.run / "final", SaveOptions::Weights::bf16);
  EXPECT_NE(refusal(warmup).find("(model.encoder)"), std::string::npos);
  TrainJob standard = job("standard");
  standard.config.parts = (warmup.run / "final").string();
  EXPECT_TRUE(train(standard).finished);
}

// Qwen2.5's embedding has more rows than its tokenizer has tokens; an encoder from random weights has the tokens alone.
TEST_F(MaskedLmTest, AnEncoderHasNoRowsForADecodersPadding) {
  const std::string few = (directory_ / "few.tokens").string();
  write_corpus(few, {100, {400, 300, 500}, {"a", "b"}});
  TrainJob mlm = mlm_job("mlm");
  mlm.config.train = mlm.config.validation = {few};
  train(mlm);
  TrainJob standard = job("standard");  // the decoder's embedding has 128 rows
  standard.config.encoder = (mlm.run / "final").string();
  EXPECT_NE(refusal(standard).find("data.tokens: token ids of a vocabulary of 128"), std::string::npos);
  EXPECT_NE(refusal(standard).find("embedding has 101 rows"), std::string::npos);
  standard.config.train = standard.config.validation = {few};
  EXPECT_TRUE(train(standard).finished);
  TrainJob more = job("more");
  more.config.parts = (standard.run / "final").string();
  EXPECT_NE(refusal(more).find("embedding has 101 rows"), std::string::npos);
  more.config.train = more.config.validation = {few};
  EXPECT_TRUE(train(more).finished);
  // A decoder with a tokenizer says what its tokens are: more than the encoder has rows.
  standard.config.base = CEPE_TEST_DATA "/generate/plain";
  standard.run = directory_ / "other";
  EXPECT_NE(refusal(standard).find("has 101 rows, the tokenizer of"), std::string::npos) << refusal(standard);
}

TEST_F(MaskedLmTest, WhatDoesNotFitIsRefused) {
  const auto refused = [&](auto change, const std::string& phrase) {
    TrainJob run = mlm_job("run");
    change(run.config);
    EXPECT_NE(refusal(run).find(phrase), std::string::npos) << phrase << " in " << refusal(run);
    EXPECT_FALSE(fs::exists(run.run));
  };
  refused([](TrainConfig& c) { c.chunk_length = 65; }, "exceed the encoder's window of 64");
  refused([](TrainConfig& c) { c.mlm_heads = 5; }, "mlm.hidden_size");
  refused([](TrainConfig& c) { c.mlm_mask_token = 128; }, "no row of the encoder's embedding of 128");
  refused([](TrainConfig& c) { c.encoder = kPlain; }, "expected a masked language model");
  // The fixture has no row for a mask token behind the corpus's vocabulary of 128.
  refused([](TrainConfig& c) { c.encoder = kMlm; }, "embedding has 127 rows");
  TrainJob wide = mlm_job("wide");
  wide.config.mlm_hidden_size = 128;  // the decoder's width is 64
  train(wide);
  TrainJob warmup = job("warmup");
  warmup.config.encoder = (wide.run / "final").string();
  EXPECT_NE(refusal(warmup).find("width 128 exceeds the decoder's 64"), std::string::npos);
  warmup.config.base = kPublished;
  EXPECT_NE(refusal(warmup).find("has an encoder already"), std::string::npos);
}

}  // namespace
}  // namespace cepe
