// Checkpoints of a training run (docs/formats/training-checkpoint.md): run/step-000123/ holds
//
//   config.json, model.safetensors   the trained model in float32, as its kind is written (stages/trained_model.h)
//   optimizer.safetensors            AdamW's averages
//   state.json                       the step, what the run was told, and hashes of what it reads
//
// A checkpoint is written under another name and renamed when it is whole: one that can be seen is complete.
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "model/cepe.h"
#include "train/optimizer.h"

namespace cepe {

// What a checkpoint is written from and read into. The pieces must outlive the object.
struct TrainingState {
  std::vector<Parameter> parameters;  // in the order that the optimizer was given
  OptimizerState optimizer;           // of all parameters; its tensors are those that are read or written
};

// The checkpoints in a run's directory, the newest first.
std::vector<std::filesystem::path> checkpoints_of(const std::filesystem::path& run);

// Writes run/step-<state["step"]>, points run/latest at it and removes all but the newest `keep` checkpoints. On
// failure, a full disk for one, throws Error and leaves the earlier ones as they were, one of the same step included.
struct CheckpointOptions {
  // Writes config.json and model.safetensors, which holds the parameters in float32 by their names.
  std::function<void(const std::filesystem::path& directory)> save_model;
  nlohmann::json state;  // state.json; "step" is required
  int64_t keep = 2;
};
std::filesystem::path save_checkpoint(const std::filesystem::path& run, const TrainingState& training,
                                      const CheckpointOptions& options);

// A checkpoint of another version is not damaged.
class OtherVersion : public Error {
 public:
  using Error::Error;
};
// state.json of a checkpoint, every entry that a run reads checked. Error when it is not one, of another version, or of
// another step than the directory's name says.
nlohmann::json read_checkpoint_state(const std::filesystem::path& checkpoint);
// Copies the weights and the optimizer's state in, bit for bit. Error naming the tensor that is missing or of another
// shape.
void load_checkpoint(const std::filesystem::path& checkpoint, const TrainingState& training);
// Loads the newest whole checkpoint of a run. One that is damaged gets another name, step-000123.damaged, and the one
// before it is tried; a note says so, and run/latest points at what was loaded. Where none is whole nothing is renamed,
// and the newest's error is thrown. CannotRead where a file of one is there and cannot be opened or read: it may be
// whole, so that nothing is renamed and none before it is tried.
struct LoadedCheckpoint {
  nlohmann::json state;
  std::vector<std::string> notes;
};
// may_resume(checkpoint, state) throws Error where the run cannot go on from a whole one: then none is tried before it.
// Nothing: there are no checkpoints.
using MayResume = std::function<void(const std::filesystem::path& checkpoint, const nlohmann::json& state)>;
std::optional<LoadedCheckpoint> load_newest_checkpoint(const std::filesystem::path& run, const TrainingState& training,
                                                       const MayResume& may_resume);

// Removes what writers that were killed have left in a run's directory. A checkpoint that was about to be replaced gets
// its name back where the other never took its place.
void remove_unfinished_checkpoints(const std::filesystem::path& run);

}  // namespace cepe
