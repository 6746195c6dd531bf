#include "train/stages/masked_lm_model.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "base/error.h"
#include "model/checkpoint/masked_lm_checkpoint.h"
#include "model/masked_lm/masked_lm_config.h"
#include "ops/trained_head.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kLogitRowsAtOnce = 512;  // rows of logits held at once in validation

class WorkingMaskedLm : public WorkingModel {
 public:
  WorkingMaskedLm(MaskedLm model, int64_t mask_token) : model_(std::move(model)), mask_token_(mask_token) {}
  at::Tensor loss_sum(const Batch& batch) const override {
    return masked_lm_loss_sum(model_, masked_tokens(batch, mask_token_));
  }

 private:
  const MaskedLm model_;
  const int64_t mask_token_;
};

// What the head reads at the masked positions, (N, E).
at::Tensor states_of_masked(const MaskedLm& model, const MaskedTokens& tokens) {
  const at::Tensor states = masked_lm_encode(model, tokens.ids_BL, tokens.real_BL).flatten(0, 1);
  return masked_lm_transform(model, states.index_select(0, tokens.masked_N));
}

StackConfig random_encoder_config(const TrainConfig& config, int64_t rows) {
  StackConfig encoder;
  encoder.vocab_size = rows;
  encoder.hidden_size = config.mlm_hidden_size;
  encoder.intermediate_size = config.mlm_intermediate_size;
  encoder.num_layers = config.encoder_layers;
  encoder.num_heads = encoder.num_kv_heads = config.mlm_heads;
  encoder.head_dim = default_head_dim(config.mlm_hidden_size, config.mlm_heads, "mlm.hidden_size");
  encoder.max_positions = config.mlm_positions;
  encoder.tie_embeddings = true;
  check_stack_config(encoder, "mlm.hidden_size");
  return encoder;
}

}  // namespace

MaskedTokens masked_tokens(const Batch& batch, int64_t mask_token) {
  const at::Tensor labels_BL = batch.decoder_BT1.narrow(1, 1, batch.decoder_BT1.size(1) - 1);
  const at::Tensor labels = labels_BL.reshape(-1);
  const at::Tensor masked = batch.scored_N.defined() ? batch.scored_N : at::arange(labels.numel(), labels.options());
  return {labels.index_fill(0, masked, mask_token).view(labels_BL.sizes()), masked, labels.index_select(0, masked)};
}

at::Tensor masked_lm_loss_sum(const MaskedLm& model, const MaskedTokens& tokens) {
  return trained_head_cross_entropy_sum(states_of_masked(model, tokens), model.head, tokens.labels_N, {}, model.bias);
}

TokenScores masked_lm_scores(const MaskedLm& model, const MaskedTokens& tokens) {
  const at::NoGradGuard no_grad;
  const at::Tensor states = states_of_masked(model, tokens);
  std::vector<at::Tensor> losses, right;
  for (int64_t start = 0; start < states.size(0); start += kLogitRowsAtOnce) {
    const int64_t n = std::min(kLogitRowsAtOnce, states.size(0) - start);
    const at::Tensor labels = tokens.labels_N.narrow(0, start, n);
    const at::Tensor rows = at::linear(states.narrow(0, start, n), model.head, model.bias).to(at::kFloat);
    losses.push_back(rows.log_softmax(-1).gather(1, labels.unsqueeze(1)).squeeze(1).neg().to(at::kDouble));
    right.push_back(rows.argmax(-1).eq(labels));
  }
  return {at::cat(losses).cpu(), at::cat(right).cpu()};
}

MaskedLmModel::MaskedLmModel(const StageInput& input)
    : config_(input.config), device_(input.device), dtype_(input.dtype) {
  begin(input);
  model_.stack.recompute = config_.recompute;
  StackConfig& encoder = model_.stack.config;
  masked_lm_config_to_published_json(encoder);  // refuses now what could not be written at the end
  require(config_.chunk_length <= encoder_window(encoder),
          "train.chunk_length: pieces of {} tokens exceed the encoder's window of {}", config_.chunk_length,
          encoder_window(encoder));
  require(config_.mlm_mask_token < encoder.vocab_size, "mlm.mask_token: {} is no row of the encoder's embedding of {}",
          config_.mlm_mask_token, encoder.vocab_size);
  mask_token_ = config_.mlm_mask_token >= 0 ? config_.mlm_mask_token : encoder.vocab_size - 1;
  for (const Parameter& parameter : parameters()) parameter.value->set_requires_grad(true);
  if (!input.data.validation.documents.empty()) validation_.emplace(config_, input.data.validation);
  model_.stack.rotary.table(encoder, config_.chunk_length, at::empty({1}, at::TensorOptions(dtype_).device(device_)));
}

// An encoder of a run before, a decoder's first layers, or random weights.
void MaskedLmModel::begin(const StageInput& input) {
  const int64_t extra_rows = config_.mlm_mask_token < 0 ? 1 : 0, tokens = input.data.train.vocab_size;
  if (!config_.encoder.empty()) {
    model_ = open_masked_lm(config_.encoder, device_);
    origin_ = config_.encoder;
    check_vocabulary(input.data, model_.stack.config.vocab_size - extra_rows, nullptr, origin_);
  } else if (config_.mlm_hidden_size == 0) {
    begin_from_decoder(input, extra_rows);
  } else {
    check_vocabulary(input.data, tokens, nullptr, "data.train");
    const auto seed = static_cast<uint64_t>(config_.seed);
    model_ = random_masked_lm(random_encoder_config(config_, tokens + extra_rows), seed, device_);
    origin_ = "random weights";
  }
}

void MaskedLmModel::begin_from_decoder(const StageInput& input, int64_t extra_rows) {
  const OpenedModel base = open_model(base_of(config_), {.device = device_});
  check_vocabulary(input.data, base.model.config.decoder.vocab_size, base.tokenizer.get(), config_.base);
  model_ = masked_lm_from_decoder(base.model, {.layers = config_.encoder_layers,
                                               .window = config_.mlm_positions,
                                               .extra_rows = extra_rows,
                                               .seed = static_cast<uint64_t>(config_.seed)});
  origin_ = fmt::format("the first layers of {}", config_.base);
  base_sha256_ = hash_weights(base.path);
  notes_ = base.notes;
}

std::unique_ptr<WorkingModel> MaskedLmModel::working() const {
  return std::make_unique<WorkingMaskedLm>(cast(model_, dtype_), mask_token_);
}

std::string MaskedLmModel::describe() const {
  const StackConfig& encoder = model_.stack.config;
  return fmt::format("an encoder of {} layers of width {} from {}, mask token {} of {}", encoder.num_layers,
                     encoder.hidden_size, origin_, mask_token_, encoder.vocab_size);
}

ValidationResult MaskedLmModel::validate() const {
  const at::NoGradGuard no_grad;
  const MaskedLm working = cast(model_, dtype_);
  ValidationResult result;
  result.texts = validation_->run(
      device_, [&](const Batch& batch) { return masked_lm_scores(working, masked_tokens(batch, mask_token_)); });
  return result;
}

nlohmann::json MaskedLmModel::record(const nlohmann::json& training) const {
  nlohmann::json record = training;
  record["mask_token_id"] = mask_token_;
  return record;
}

void MaskedLmModel::save(const fs::path& directory, const nlohmann::json& training) {
  save_masked_lm(model_, directory, SaveOptions::Weights::f32, record(training));
}

void MaskedLmModel::save_final(const fs::path& directory, const nlohmann::json& training) {
  save_masked_lm(model_, directory, saved_weights_from_name(config_.weights, "run.weights"), record(training));
}

}  // namespace cepe
