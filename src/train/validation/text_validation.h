// Validation of a model that reads text alone, without a context: stages mlm and window.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "train/batches.h"
#include "train/samples/held_out_spans.h"

namespace cepe {

struct TextRow {
  std::string domain;
  int64_t samples = 0;
  double loss = 0;                 // mean over the scored tokens of these samples
  std::optional<double> accuracy;  // share of them that are the most likely one; unset where it is not measured
};

// Of each scored token of a batch, sample after sample, on the CPU.
struct TokenScores {
  at::Tensor loss_N;   // float64
  at::Tensor right_N;  // bool: it is the most likely one; undefined: not measured
};

class TextValidation {
 public:
  // Fixed samples of the stage (held_out_spans.h); in stage mlm with fixed masks. config must outlive the object.
  TextValidation(const TrainConfig& config, const Corpus& corpus);

  // One row a domain and, last, "all". score is called without gradients, on batches that are on the device.
  std::vector<TextRow> run(const at::Device& device, const std::function<TokenScores(const Batch&)>& score) const;

 private:
  const TrainConfig& config_;
  std::vector<std::string> domains_;
  std::vector<size_t> domain_;  // of each sample
  std::vector<Sample> samples_;
};

}  // namespace cepe
