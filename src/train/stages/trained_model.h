// What a stage trains, as the training loop sees it: the seam between the loop and the kinds of model.
//
//   encoder and cross-attention of a frozen decoder   stages warmup, standard, distill, ask   parts_model.h
//   an encoder with its masked-LM head                stage mlm                               masked_lm_model.h
//   a plain decoder                                   stage window                            window_model.h
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/cepe.h"
#include "train/training_inputs.h"
#include "train/validation/validation_result.h"

namespace cepe {

// A step's copy of the weights in the arithmetic's type, through which gradients flow back to the trained ones. All
// batches of a step run on one.
class WorkingModel {
 public:
  virtual ~WorkingModel() = default;
  // The sum of weight x loss over what the batch scores (the weights sum to batch.weight): a scalar in float32 on the
  // device. Nothing here waits for the device.
  virtual at::Tensor loss_sum(const Batch& batch) const = 0;
};

class TrainedModel {
 public:
  virtual ~TrainedModel() = default;
  // What is trained: float32 leaves that ask for gradients, always in the same order.
  virtual std::vector<Parameter> parameters() = 0;
  virtual std::unique_ptr<WorkingModel> working() const = 0;
  // Operations of forward and backward for one sample (throughput.h).
  virtual double flops(const SampleShape& shape) const = 0;
  // One phrase of what is trained, after "with N trained parameters".
  virtual std::string describe() const = 0;
  virtual std::vector<std::string> notes() const = 0;  // what a user should know about the files it came from
  // Of the base's weights that the run began with; empty: it has no base.
  virtual std::string base_sha256() const = 0;

  virtual bool validates() const = 0;  // there are held-out texts
  virtual ValidationResult validate() const = 0;

  // Writes config.json and model.safetensors in float32 into a checkpoint: a model that any command opens, but in stage
  // mlm, whose result is for model.encoder. The names of the tensors are those of parameters(). training: what
  // config.json records.
  virtual void save(const std::filesystem::path& directory, const nlohmann::json& training) = 0;
  // The same as the run's result, in the type that run.weights says.
  virtual void save_final(const std::filesystem::path& directory, const nlohmann::json& training) = 0;
};

struct StageInput {
  const TrainConfig& config;  // it and the data outlive the model
  const TrainingData& data;
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;  // of the arithmetic
};

}  // namespace cepe
