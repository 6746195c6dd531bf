#include "train/stages/open_stage.h"

#include "train/stages/masked_lm_model.h"
#include "train/stages/parts_model.h"
#include "train/stages/window_model.h"

namespace cepe {

std::unique_ptr<TrainedModel> open_trained_model(const StageInput& input) {
  if (input.config.stage == Stage::mlm) return std::make_unique<MaskedLmModel>(input);
  if (input.config.stage == Stage::window) return std::make_unique<WindowModel>(input);
  return std::make_unique<PartsModel>(input);
}

}  // namespace cepe
