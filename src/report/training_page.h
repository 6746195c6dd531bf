// The part of the page about a training run.
#pragma once

#include <string>
#include <vector>

#include "report/training_run.h"

namespace cepe {

// Of several runs: the loss and each kind of validation, a picture of all runs each. Of a single one nothing.
std::string trainings_together(const std::vector<TrainingRun>& runs);

// How far the run is, its loss, its validations, learning rate, gradient and speed, and the configuration.
std::string training_section(const TrainingRun& run);

}  // namespace cepe
