#include "train/stages/parts_model.h"

#include <ATen/ATen.h>

#include "base/error.h"
#include "ops/gemm/fp8.h"
#include "ops/gemm/trained_products.h"
#include "train/stages/working_copy.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;

class WorkingParts : public WorkingModel {
 public:
  // fp8: null but with train.fp8_frozen.
  WorkingParts(Cepe model, const Objective& objective, Fp8Weights* fp8)
      : model_(std::move(model)), objective_(objective), fp8_(fp8) {}
  at::Tensor loss_sum(const Batch& batch) const override {
    const Fp8FrozenProducts frozen(fp8_);
    return objective_.loss_sum(model_, batch);
  }

 private:
  const Cepe model_;
  const Objective& objective_;
  Fp8Weights* const fp8_;
};

// Before a model is read.
const TrainConfig& checked(const StageInput& input) {
  const std::string refusal = input.config.fp8_frozen ? fp8_refusal(input.device) : "";
  require(refusal.empty(), "train.fp8_frozen: {}", refusal);
  require(!input.config.fp8_frozen || input.dtype == at::kBFloat16,
          "train.fp8_frozen: the arithmetic must be bfloat16 (train.precision)");
  return input.config;
}

}  // namespace

PartsModel::PartsModel(const StageInput& input)
    : config_(checked(input)),
      dtype_(input.dtype),
      objective_(make_objective(config_)),
      opened_(open_for_training(config_, input.device, dtype_)) {
  opened_.model.decoder.stack.recompute = opened_.model.encoder->stack.recompute = config_.recompute;
  const int64_t longest = check_training_data(config_, input.data, opened_);
  require(!published() || config_.weights != "int8",
          "run.weights int8: the base {} is a published CEPE model, whose layout has no int8 weights", config_.base);
  if (published()) cepe_config_to_published_json(opened_.model.config);  // refuses now what could not be written
  if (!input.data.validation.documents.empty()) validation_.emplace(config_, input.data.validation);
  if (!input.data.ask_validation.documents.empty()) sample_validation_.emplace(config_, input.data.ask_validation);
  // Tables are computed on the host; made here once, the copies that cast() makes share them and no step waits for one.
  const at::Tensor like = at::empty({1}, at::TensorOptions(dtype_).device(input.device));
  const Stack &decoder = opened_.model.decoder.stack, &encoder = opened_.model.encoder->stack;
  decoder.rotary.table(decoder.config, longest, like);
  encoder.rotary.table(encoder.config, config_.chunk_length, like);
}

std::unique_ptr<WorkingModel> PartsModel::working() const {
  return std::make_unique<WorkingParts>(working_copy(opened_.model, dtype_), *objective_,
                                        config_.fp8_frozen ? &fp8_weights_ : nullptr);
}

std::string PartsModel::describe() const {
  const CepeConfig& config = opened_.model.config;
  const CrossVariants& variants = config.decoder.cross;
  std::string text =
      fmt::format("{} encoder layers, cross-attention in {} {} decoder layers of a {}", config.encoder->num_layers,
                  variants.layers.empty() ? "the last" : "chosen", config.num_cross_attn_layers, opened_.kind);
  if (variants != CrossVariants{}) text += fmt::format(", variants {}", cross_variants_to_json(variants).dump());
  return text;
}

ValidationResult PartsModel::validate() const {
  const at::NoGradGuard no_grad;
  const Cepe working = cast(opened_.model, dtype_);
  ValidationResult result;
  if (validation_) result.documents = validation_->run(working);
  if (sample_validation_) result.samples = sample_validation_->run(working);
  return result;
}

SaveOptions PartsModel::save_options(const nlohmann::json& training) const {
  SaveOptions options;
  const fs::path base = fs::path(*opened_.base_path).lexically_normal();
  const fs::path leaf = base.has_filename() ? base.filename() : base.parent_path().filename();
  options.base_name = config_.base_name.empty() ? leaf.string() : config_.base_name;
  options.base_sha256 = opened_.base_sha256;
  options.training = training;
  return options;
}

void PartsModel::save(const fs::path& directory, const nlohmann::json& training) {
  SaveOptions options = save_options(training);
  options.weights = SaveOptions::Weights::f32;
  save_trained_parts(opened_.model, directory, options);
}

void PartsModel::save_final(const fs::path& directory, const nlohmann::json& training) {
  SaveOptions options = save_options(training);
  options.weights = saved_weights_from_name(config_.weights, "run.weights");
  if (!published()) return save_trained_parts(opened_.model, directory, options);
  const fs::path& base = *opened_.base_path;
  const std::string now = hash_weights(base);
  require(now == opened_.base_sha256, "{}: changed since training began: SHA-256 {}, now {}", base.string(),
          opened_.base_sha256, now);
  export_trained_published(opened_.model, directory, {base, options.weights, options.training});
}

}  // namespace cepe
