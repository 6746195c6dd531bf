// A plain decoder, trained whole with full attention over a longer window: stage window, the baseline that has seen the
// same tokens (position interpolation, Chen et al. 2023, arXiv 2306.15595; YaRN, Peng et al. 2023, arXiv 2309.00071).
#pragma once

#include <optional>

#include "model/checkpoint/tokenizer_files.h"
#include "train/stages/trained_model.h"

namespace cepe {

// Sets the scaling of a decoder's rotary positions. Error where it is scaled already; `where` names the model.
void scale_window(StackConfig& decoder, WindowRope rope, double factor, const std::string& where);

class WindowModel : public TrainedModel {
 public:
  explicit WindowModel(const StageInput& input);

  std::vector<Parameter> parameters() override { return cepe::parameters(opened_.model); }
  std::unique_ptr<WorkingModel> working() const override;
  double flops(const SampleShape& shape) const override {
    return decoder_training_flops(opened_.model.config.decoder, shape);
  }
  std::string describe() const override;
  std::vector<std::string> notes() const override { return opened_.notes; }
  std::string base_sha256() const override { return opened_.base_sha256; }
  bool validates() const override { return validation_.has_value(); }
  ValidationResult validate() const override;
  // A Hugging Face directory with the base's tokenizer.
  void save(const std::filesystem::path& directory, const nlohmann::json& training) override;
  void save_final(const std::filesystem::path& directory, const nlohmann::json& training) override;

 private:
  void write(const std::filesystem::path& directory, SaveOptions::Weights weights, const nlohmann::json& training);

  const TrainConfig& config_;
  const at::ScalarType dtype_;
  OpenedModel opened_;
  TokenizerFiles tokenizer_;
  std::optional<TextValidation> validation_;
};

}  // namespace cepe
