// An encoder with its masked-language-model head: stage mlm (method: "Training", stage 0).
#pragma once

#include <optional>

#include "model/masked_lm/masked_lm.h"
#include "train/stages/trained_model.h"

namespace cepe {

// The scored positions of a piece are masked: the model reads mask_token there, and predicts the piece's own token.
// A step's loss is the mean of -log p over all masked positions of its pieces.
struct MaskedTokens {
  at::Tensor ids_BL;        // what the model reads
  at::Tensor masked_N;      // which of the B * L positions are masked
  at::Tensor labels_N;      // their own tokens
  at::Tensor real_BL = {};  // bool, false: padding, which nothing attends to; undefined: all are real
};
MaskedTokens masked_tokens(const Batch& batch, int64_t mask_token);
// The sum of -log p(own token) over the masked positions, a scalar through which gradients flow.
at::Tensor masked_lm_loss_sum(const MaskedLm& model, const MaskedTokens& tokens);
// The same for each of them, with whether it is the most likely token. No gradients.
TokenScores masked_lm_scores(const MaskedLm& model, const MaskedTokens& tokens);

class MaskedLmModel : public TrainedModel {
 public:
  explicit MaskedLmModel(const StageInput& input);

  std::vector<Parameter> parameters() override { return cepe::parameters(model_); }
  std::unique_ptr<WorkingModel> working() const override;
  double flops(const SampleShape& shape) const override { return masked_lm_training_flops(model_.stack.config, shape); }
  std::string describe() const override;
  std::vector<std::string> notes() const override { return notes_; }
  std::string base_sha256() const override { return base_sha256_; }
  bool validates() const override { return validation_.has_value(); }
  ValidationResult validate() const override;
  void save(const std::filesystem::path& directory, const nlohmann::json& training) override;
  void save_final(const std::filesystem::path& directory, const nlohmann::json& training) override;

 private:
  void begin(const StageInput& input);
  void begin_from_decoder(const StageInput& input, int64_t extra_rows);
  nlohmann::json record(const nlohmann::json& training) const;

  const TrainConfig& config_;
  const at::Device device_;
  const at::ScalarType dtype_;
  MaskedLm model_;
  int64_t mask_token_ = 0;
  std::string origin_, base_sha256_;
  std::vector<std::string> notes_;
  std::optional<TextValidation> validation_;
};

}  // namespace cepe
