// Encoder and cross-attention of a frozen decoder: stages warmup, standard, distill and ask.
#pragma once

#include <optional>

#include "ops/gemm/trained_products.h"
#include "train/objective.h"
#include "train/stages/trained_model.h"

namespace cepe {

class PartsModel : public TrainedModel {
 public:
  explicit PartsModel(const StageInput& input);

  std::vector<Parameter> parameters() override { return trainable_parameters(opened_.model); }
  std::unique_ptr<WorkingModel> working() const override;
  double flops(const SampleShape& shape) const override { return objective_->flops(opened_.model.config, shape); }
  std::string describe() const override;
  std::vector<std::string> notes() const override { return opened_.notes; }
  std::string base_sha256() const override { return opened_.base_sha256; }
  bool validates() const override { return validation_ || sample_validation_; }
  ValidationResult validate() const override;
  void save(const std::filesystem::path& directory, const nlohmann::json& training) override;
  // For a published CEPE model as the base: the whole model in the published layout, the frozen tensors byte for byte
  // the base's.
  void save_final(const std::filesystem::path& directory, const nlohmann::json& training) override;

 private:
  bool published() const { return opened_.kind == "published CEPE"; }
  SaveOptions save_options(const nlohmann::json& training) const;

  const TrainConfig& config_;
  const at::ScalarType dtype_;
  const std::unique_ptr<Objective> objective_;
  OpenedModel opened_;
  mutable Fp8Weights fp8_weights_;  // of opened_, where train.fp8_frozen
  std::optional<Validation> validation_;
  std::optional<SampleValidation> sample_validation_;
};

}  // namespace cepe
