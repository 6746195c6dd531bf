#include "train/stages/window_model.h"

#include <ATen/ATen.h>

#include <cmath>

#include "base/error.h"
#include "model/checkpoint/decoder_directory.h"
#include "ops/ops.h"
#include "ops/trained_head.h"
#include "train/objective.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;

class WorkingDecoder : public WorkingModel {
 public:
  explicit WorkingDecoder(Cepe model) : model_(std::move(model)) {}
  at::Tensor loss_sum(const Batch& batch) const override {
    const ScoredStates scored = scored_states(decode_batch(model_, batch), batch);
    return trained_head_cross_entropy_sum(scored.hidden_ND, model_.decoder.lm_head, scored.labels_N, batch.weight_N);
  }

 private:
  const Cepe model_;
};

TokenScores next_token_scores(const Cepe& model, const Batch& batch) {
  const ScoredStates scored = scored_states(decode_batch(model, batch), batch);
  const at::Tensor losses = linear_cross_entropy(scored.hidden_ND, model.decoder.lm_head.detach(), scored.labels_N);
  return {losses.to(at::kDouble).cpu(), {}};
}

OpenedModel open_plain(const TrainConfig& config, const at::Device& device) {
  OpenedModel opened = open_model(base_of(config), {.device = device});  // float32: the weights are trained
  require(!opened.model.encoder, "model.base: {} is a {}: stage window trains a plain decoder", config.base,
          opened.kind);
  check_decoder_directory(opened.model.config.decoder, opened.path.string());  // now, not at the end
  opened.base_sha256 = hash_weights(opened.path);
  return opened;
}

}  // namespace

void scale_window(StackConfig& decoder, WindowRope rope, double factor, const std::string& where) {
  if (rope == WindowRope::none) return;
  require(decoder.rope.kind == RopeKind::none && decoder.rope.frequency_divisors.empty(),
          "window.rope: the rotary positions of {} are scaled already: choose none", where);
  decoder.rope.kind = rope == WindowRope::linear ? RopeKind::linear : RopeKind::yarn;
  decoder.rope.factor = factor;
  decoder.chosen_window = 0;
  if (rope == WindowRope::linear) return;  // max_position_embeddings stays the window before the scaling
  // Of yarn it is the window after it: versions of transformers that take the factor from the two numbers agree.
  decoder.rope.original_positions = decoder.max_positions;
  decoder.max_positions = static_cast<int64_t>(std::floor(static_cast<double>(decoder.max_positions) * factor + 1e-6));
}

WindowModel::WindowModel(const StageInput& input)
    : config_(input.config), dtype_(input.dtype), opened_(open_plain(config_, input.device)) {
  Cepe& model = opened_.model;
  check_vocabulary(input.data, model.config.decoder.vocab_size, opened_.tokenizer.get(), config_.base);
  scale_window(model.config.decoder, config_.window_rope, config_.window_factor, config_.base);
  model.decoder.stack.config = model.config.decoder;
  model.decoder.stack.recompute = config_.recompute;
  const int64_t window = decoder_window(model.config.decoder);
  require(config_.decoder_tokens <= window,
          "train.decoder_tokens: {} tokens exceed the decoder's window of {}, as window.rope and window.factor give it",
          config_.decoder_tokens, window);
  tokenizer_ = tokenizer_files(opened_);
  if (tokenizer_.contents.empty()) opened_.notes.push_back("the result is written " + tokenizer_.said);
  for (const Parameter& parameter : parameters()) parameter.value->set_requires_grad(true);
  if (!input.data.validation.documents.empty()) validation_.emplace(config_, input.data.validation);
  const Stack& stack = model.decoder.stack;
  stack.rotary.table(stack.config, config_.decoder_tokens,
                     at::empty({1}, at::TensorOptions(dtype_).device(input.device)));
}

std::unique_ptr<WorkingModel> WindowModel::working() const {
  return std::make_unique<WorkingDecoder>(cast(opened_.model, dtype_));
}

std::string WindowModel::describe() const {
  const StackConfig& decoder = opened_.model.config.decoder;
  static const char* kinds[] = {"as they are", "interpolated", "scaled by YaRN"};
  return fmt::format("all {} layers of a {}, rotary positions {}, a window of {} tokens", decoder.num_layers,
                     opened_.kind, kinds[static_cast<int>(config_.window_rope)], decoder_window(decoder));
}

ValidationResult WindowModel::validate() const {
  const at::NoGradGuard no_grad;
  const Cepe working = cast(opened_.model, dtype_);
  ValidationResult result;
  result.texts =
      validation_->run(working.device(), [&](const Batch& batch) { return next_token_scores(working, batch); });
  return result;
}

void WindowModel::write(const fs::path& directory, SaveOptions::Weights weights, const nlohmann::json& training) {
  save_decoder(opened_.model, directory, weights, training);
  tokenizer_.write(directory);
}

void WindowModel::save(const fs::path& directory, const nlohmann::json& training) {
  write(directory, SaveOptions::Weights::f32, training);
}

void WindowModel::save_final(const fs::path& directory, const nlohmann::json& training) {
  write(directory, saved_weights_from_name(config_.weights, "run.weights"), training);
}

}  // namespace cepe
