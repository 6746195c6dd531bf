// Variants of cross-attention against the formula, one query, head and state at a time; their gradients by finite
// differences; steps; and parts on disk.
#include "model/cross_variants.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "base/error_of.h"
#include "base/file.h"
#include "model/additions.h"
#include "model/step_against_decode.h"

namespace cepe {
namespace {

using Form = CrossAttentionForm;

TEST(CrossVariants, FactorsAndBucketsByHand) {
  const CrossVariants scaled{.query_log_scale = 0.25, .query_log_tokens = 1000};
  EXPECT_EQ(query_factor(scaled, 1000), 1.0);
  EXPECT_EQ(query_factor(scaled, 3), 1.0);
  EXPECT_NEAR(query_factor(scaled, 8000), 1 + 0.25 * 2.0794415416798357, 1e-12);
  // ln(n / 1024) / ln 1024 more than 1 is log n to the base 1024.
  EXPECT_NEAR(query_factor({.query_log_scale = 1 / std::log(1024.0)}, 1 << 17), 1.7, 1e-12);
  const CrossVariants sixteen{.position_buckets = 16};
  const std::vector<std::pair<int64_t, int64_t>> buckets = {{0, 0},   {7, 7},    {8, 8},    {13, 8},   {14, 9},
                                                            {64, 12}, {304, 14}, {305, 15}, {511, 15}, {9000, 15}};
  for (const auto& [steps, bucket] : buckets) EXPECT_EQ(position_bucket(sixteen, steps), bucket) << steps;
}

// A small layer in float64 whose contexts are masked here and there, or not at all.
class ReadingVariants : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    at::manual_seed(4);
    config_.num_heads = 4, config_.num_kv_heads = 2, config_.head_dim = 6;
    weights_.k.weight = at::randn({12, 10}, at::kDouble) / 2;
    weights_.v.weight = at::randn({12, 10}, at::kDouble) / 2;
    weights_.null_key = at::randn({12}, at::kDouble) / 2;
    weights_.position_keys = at::randn({4, 12}, at::kDouble);
    q_ = at::randn({2, 3, 4, 6}, at::kDouble);
    latents_.states_BSE = at::randn({2, 23, 10}, at::kDouble);
    if (!GetParam()) return;
    latents_.mask_BS = at::rand({2, 23}) < 0.7;
    latents_.mask_BS[1].narrow(0, 15, 8).fill_(false);
  }
  at::Tensor read(Form form, int64_t block = 0) const {
    return read_context(weights_, config_, q_, latents_, {form, block});
  }
  // Scores in the encoder's space, as absorbed attention has them, with what the variants add to them.
  at::Tensor formula() const {
    const CrossVariants& v = config_.cross;
    at::Tensor out = at::zeros_like(q_);
    for (int64_t b = 0; b < 2; ++b) {
      std::vector<int64_t> real;
      for (int64_t s = 0; s < 23; ++s)
        if (!latents_.mask_BS.defined() || latents_.mask_BS[b][s].item<bool>()) real.push_back(s);
      const auto n = static_cast<int64_t>(real.size());
      for (int64_t i = 0; i < 3 * 4; ++i) {
        const int64_t t = i / 4, h = i % 4, g = h / 2;
        const auto of_head = [&](const at::Tensor& x) { return x.narrow(0, g * 6, 6); };
        const at::Tensor q = q_[b][t][h] * query_factor(v, n), moved = at::matmul(of_head(weights_.k.weight).t(), q);
        double total = v.null_key ? std::exp(at::dot(q, of_head(weights_.null_key)).item<double>()) : 0;
        at::Tensor sum = at::zeros({10}, at::kDouble);
        for (int64_t r = 0; r < n; ++r) {
          const at::Tensor state = latents_.states_BSE[b][real[static_cast<size_t>(r)]];
          double score = at::dot(moved, state).item<double>();
          if (v.position_buckets > 0) {
            const int64_t bucket = position_bucket(v, (n - 1 - r) / v.position_states);
            score += at::dot(q, of_head(weights_.position_keys[bucket])).item<double>();
          }
          const double p = std::exp(score / std::sqrt(6.0));
          total += p, sum += p * state;
        }
        out[b][t][h].copy_(at::matmul(of_head(weights_.v.weight), sum / total));
      }
    }
    return out;
  }
  StackConfig config_;
  CrossAttention weights_;
  at::Tensor q_;
  Latents latents_;
};
INSTANTIATE_TEST_SUITE_P(Masked, ReadingVariants, testing::Bool());

TEST_P(ReadingVariants, EqualTheFormula) {
  const CrossVariants null{.null_key = true}, positions{.position_buckets = 4, .position_states = 5},
      all{.query_log_scale = 0.6, .query_log_tokens = 4, .null_key = true, .position_buckets = 4, .position_states = 3};
  for (const CrossVariants& variants : {null, positions, all}) {
    config_.cross = variants;
    const at::NoGradGuard no_gradients;
    const at::Tensor expected = formula();
    for (const int64_t block : {0, 7, 128})
      EXPECT_LT(norm_error(read(Form::materialised, block), expected), 1e-12) << block;
    EXPECT_LT(norm_error(read(Form::automatic), expected), 1e-12);
    EXPECT_NE(error_of([&] { read(Form::absorbed); }).find("in its materialised form alone, the absorbed form"),
              std::string::npos);
  }
}

TEST_P(ReadingVariants, ScaledQueriesInEveryForm) {
  config_.cross = {.query_log_scale = 0.6, .query_log_tokens = 4};
  const at::NoGradGuard no_gradients;
  const at::Tensor expected = formula();
  Stack stack;
  stack.config = config_;
  stack.layers.resize(1);
  stack.layers[0].cross_attention = weights_;
  latents_.cache = cache_context(stack, latents_);
  for (const Form form : {Form::absorbed, Form::materialised, Form::cached}) {
    const at::Tensor found = read_context(weights_, config_, q_, latents_, {form, 7, &latents_.cache->layers[0]});
    EXPECT_LT(norm_error(found, expected), 1e-12) << cross_attention_form_name(form);
  }
}

// d sum(w * out) / dx at some places, by central differences.
void expect_gradient(at::Tensor& x, const std::function<at::Tensor()>& loss) {
  x.set_requires_grad(true);
  loss().backward();
  const at::Tensor gradient = x.grad().clone().flatten();
  x.mutable_grad().reset();
  x.set_requires_grad(false);
  constexpr double kStep = 1e-5;
  for (int64_t i = 0; i < x.numel(); i += std::max<int64_t>(1, x.numel() / 7)) {
    at::Tensor place = x.flatten()[i];
    const double before = place.item<double>();
    place.fill_(before + kStep);
    const double up = loss().item<double>();
    place.fill_(before - kStep);
    const double down = loss().item<double>();
    place.fill_(before);
    EXPECT_NEAR(gradient[i].item<double>(), (up - down) / (2 * kStep), 1e-7) << i;
  }
}

TEST_P(ReadingVariants, GradientsByFiniteDifferences) {
  config_.cross = {
      .query_log_scale = 0.6, .query_log_tokens = 4, .null_key = true, .position_buckets = 4, .position_states = 3};
  const at::Tensor w = at::randn(q_.sizes(), at::kDouble);
  const auto loss = [&] { return (read(Form::automatic) * w).sum(); };
  for (at::Tensor* x : {&weights_.null_key, &weights_.position_keys, &weights_.k.weight, &weights_.v.weight, &q_,
                        &latents_.states_BSE}) {
    expect_gradient(*x, loss);
  }
}

// A model of the fixtures in float64, with variants whose weights are random.
Cepe varied(const char* name, const CrossVariants& variants) {
  Cepe model = open_fixture(name, at::kDouble).model;
  set_cross_variants(model, variants, name);
  for (const Parameter& parameter : trainable_parameters(model)) {
    const bool added = parameter.name.ends_with("null_key") || parameter.name.ends_with("position_keys");
    if (added) *parameter.value = at::randn(parameter.shape, at::kDouble) / 3;
  }
  return model;
}

// Means of runs of states, the last of a chunk of what is left.
at::Tensor means(const at::Tensor& states_SE, const std::vector<int64_t>& lengths, int64_t pooling) {
  std::vector<at::Tensor> rows;
  int64_t start = 0;
  for (const int64_t length : lengths) {
    for (int64_t t = 0; t < length; t += pooling)
      rows.push_back(states_SE.narrow(0, start + t, std::min(pooling, length - t)).mean(0));
    start += length;
  }
  return at::stack(rows);
}

TEST(Pooling, TakesMeansOfTheStatesOfAChunk) {
  const at::NoGradGuard no_gradients;
  at::manual_seed(5);
  const std::vector<int64_t> lengths = {16, 7, 1, 13};
  const at::Tensor ids = at::randint(0, 128, {37}, at::kLong);
  const Cepe plain = varied("cepe-gqa-last2", {});
  const at::Tensor states = encode_packed(plain, {ids, lengths}).states_BSE[0];
  for (const int64_t pooling : {2, 4, 5}) {
    const Cepe model = varied("cepe-gqa-last2", {.pooling = pooling});
    const at::Tensor expected = means(states, lengths, pooling);
    EXPECT_LT(norm_error(encode_packed(model, {ids, lengths}).states_BSE[0], expected), 1e-12) << pooling;
    at::Tensor padded = at::zeros({2, 2, 16}, at::kLong), mask = at::zeros({2, 2, 16}, at::kBool);
    int64_t start = 0;
    for (int64_t i = 0; i < 4; start += lengths[static_cast<size_t>(i++)]) {
      const int64_t length = lengths[static_cast<size_t>(i)];
      padded.view({4, 16})[i].narrow(0, 0, length).copy_(ids.narrow(0, start, length));
      mask.view({4, 16})[i].narrow(0, 0, length).fill_(true);
    }
    for (const int64_t at_once : {0, 1}) {
      const Latents found = encode(model, {padded, mask}, {at_once});
      EXPECT_EQ(found.tokens(), 2 * ((16 + pooling - 1) / pooling));
      EXPECT_TRUE(at::equal(found.mask_BS, states_mask(model, mask)));
      const at::Tensor real = found.states_BSE.flatten(0, 1).index({found.mask_BS.flatten()});
      EXPECT_LT(norm_error(real, expected), 1e-12) << pooling;
    }
  }
}

TEST(Pooling, GradientsByFiniteDifferences) {
  Cepe model = varied("cepe-gqa-last2", {.pooling = 3});
  at::Tensor mask = at::ones({1, 2, 16}, at::kBool);
  mask[0][1].narrow(0, 11, 5).fill_(false);
  const at::Tensor ids = at::randint(0, 128, {1, 2, 16}, at::kLong), text = at::randint(0, 128, {1, 6}, at::kLong);
  const auto loss = [&] {
    const Latents latents = encode(model, {ids, mask});
    return decode(model, {text, &latents}).square().sum();
  };
  expect_gradient(model.encoder->stack.layers[0].feed_forward.down.weight, loss);
}

TEST(CrossVariants, StepsEqualDecode) {
  const at::NoGradGuard no_gradients;
  at::manual_seed(6);
  const CrossVariants scaled{.query_log_scale = 0.5, .query_log_tokens = 8};
  CrossVariants all = scaled;
  all.null_key = true, all.position_buckets = 4, all.position_states = 8, all.pooling = 2;
  for (const CrossVariants& variants : {scaled, all}) {
    const Cepe model = varied("cepe-gqa-last2", variants);
    const auto context = [&](int64_t contexts, int64_t chunks) {
      return encode(model, {at::randint(0, 128, {contexts, chunks, 16}, at::kLong), {}});
    };
    const auto expect_equal = [&](const StepRun& run) {
      const std::vector<at::Tensor> sequences = random_sequences(run, model.config.decoder.vocab_size);
      EXPECT_LT(norm_error(logits_by_steps(model, run, sequences), logits_by_decode(model, run, sequences)), 1e-12);
    };
    expect_equal({.prompts = {4}, .options = {.contexts = {{context(1, 2), 0, 1}}}});
    expect_equal({.prompts = {4, 1, 6}, .options = {.contexts = {{context(3, 2), 0, 3}}}});
    const std::vector<StepContext> mixed = {{context(1, 3), 0, 2}, {context(1, 1), 3, 1}};
    expect_equal({.prompts = {4, 1, 6, 2}, .options = {.contexts = mixed}});
    // Through a table that takes other contexts of other lengths.
    StepRun run{.prompts = {4, 1, 6, 2}, .options = {.contexts = mixed, .contexts_change = true}};
    run.before = std::vector<StepContext>{{context(1, 2), 1, 2}};
    expect_equal(run);
  }
}

// Where gradients are recorded keys of all layers are one product (eager_layers.cc): of no variant that it leaves out.
TEST(CrossVariants, AreReadTheSameWithGradients) {
  at::manual_seed(9);
  for (const CrossVariants& variants :
       {CrossVariants{}, CrossVariants{.query_log_scale = 0.5, .query_log_tokens = 8}, CrossVariants{.null_key = true},
        CrossVariants{.position_buckets = 4, .position_states = 16}, CrossVariants{.pooling = 2}}) {
    Cepe model = varied("cepe-gqa-last2", variants);
    const at::Tensor ids = at::randint(0, 128, {2, 2, 16}, at::kLong), text = at::randint(0, 128, {2, 6}, at::kLong);
    const auto logits = [&] {
      const Latents latents = encode(model, {ids, {}});
      return decode(model, {text, &latents});
    };
    at::Tensor without;
    {
      const at::NoGradGuard guard;
      without = logits();
    }
    for (const Parameter& part : trainable_parameters(model)) part.value->requires_grad_();
    const at::Tensor with = logits();
    EXPECT_TRUE(with.requires_grad());
    EXPECT_LT(norm_error(with.detach(), without), 1e-12);
  }
}

TEST(CrossVariants, PartsComeBackWithThem) {
  const ScratchDirectory scratch;
  const std::filesystem::path base = std::filesystem::path(CEPE_TEST_DATA) / "families/llama-mqa";
  Cepe model = open_model(base).model;
  const CrossVariants variants{.layers = {0},
                               .query_log_scale = 0.5,
                               .query_log_tokens = 7,
                               .null_key = true,
                               .position_buckets = 4,
                               .position_states = 4,
                               .pooling = 2};
  set_cross_variants(model, variants, "test");
  add_cepe_parts(model, {.encoder_layers = 1, .zero_output = false, .encoder_window = 16, .chunk_length = 8});
  EXPECT_EQ(model.config.num_cross_attn_layers, 1);
  EXPECT_TRUE(model.decoder.stack.layers[0].cross_attention && !model.decoder.stack.layers[1].cross_attention);
  at::manual_seed(7);
  CrossAttention& cross = *model.decoder.stack.layers[0].cross_attention;
  EXPECT_EQ(cross.position_keys.abs().sum().item<double>(), 0);
  cross.null_key.normal_(), cross.position_keys.normal_();
  SaveOptions save;
  save.weights = SaveOptions::Weights::f32, save.base_name = base.string(), save.base_sha256 = hash_weights(base);
  save_trained_parts(model, scratch.path() / "m", save);
  const Cepe opened = open_model(scratch.path() / "m").model;
  EXPECT_EQ(opened.config.decoder.cross, variants);
  const auto outputs = [](const Cepe& of) {
    const at::NoGradGuard no_gradients;
    const Latents context = encode(of, {at::arange(48, at::kLong).view({2, 3, 8}), {}});
    return decode(of, {at::arange(20, at::kLong).view({2, 10}), &context});
  };
  EXPECT_TRUE(at::equal(outputs(opened), outputs(model)));
  EXPECT_NE(error_of([&] {
              export_published(model, scratch.path() / "p", SaveOptions::Weights::f32);
            }).find("knows no variants of cross-attention"),
            std::string::npos);
  const auto refusal = [&](const char* from, const char* to) {
    const std::filesystem::path file = scratch.path() / "m/config.json";
    const std::string text = read_file(file);
    std::string changed = text;
    changed.replace(changed.find(from), std::string(from).size(), to);
    write_file(file, changed);
    const std::string said = error_of([&] { open_model(scratch.path() / "m"); });
    write_file(file, text);
    return said;
  };
  EXPECT_NE(refusal("\"null_key\"", "\"nil_key\"").find("\"nil_key\" is not known"), std::string::npos);
  EXPECT_NE(refusal("\"pooling\": 2", "\"pooling\": 0").find("pooling should be 1 to"), std::string::npos);
  EXPECT_NE(refusal("\"pooling\": 2", "\"pooling\": []").find("\"pooling\" cannot be []"), std::string::npos);
  EXPECT_NE(refusal("format_version\": 2", "format_version\": 3").find("reads 1 and 2"), std::string::npos);
}

}  // namespace
}  // namespace cepe
