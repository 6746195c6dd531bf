// The part of the page about a training run.
#pragma once

#include <string>

#include "report/training_run.h"

namespace cepe {

// Curves of loss, learning rate and speed, validation on documents and on samples, and the configuration.
std::string training_section(const TrainingRun& run);

}  // namespace cepe
