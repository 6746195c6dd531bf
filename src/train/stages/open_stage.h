// The stage's kind of model.
#pragma once

#include "train/stages/trained_model.h"

namespace cepe {

// Opens what the stage trains and checks that the data fit it.
std::unique_ptr<TrainedModel> open_trained_model(const StageInput& input);

}  // namespace cepe
