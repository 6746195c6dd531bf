// Validation on samples that say what is scored (shards of samples): can the model answer?
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "model/cepe.h"
#include "train/batches.h"

namespace cepe {

struct SampleRow {
  std::string domain;  // the kind of question
  int64_t samples = 0;
  double loss = 0;  // mean over the scored tokens of these samples, all weighted alike
  // Share of samples whose scored tokens are each the most likely one, given those before it: greedy decoding would
  // write exactly them.
  double exact = 0;
  // Samples whose context has more than a quarter of so many chunks, and no more: 1, 4, 16, 64, ... Unset: all of the
  // domain.
  std::optional<int64_t> chunks = {};
};

class SampleValidation {
 public:
  // Takes config.validation_samples samples, as many of each domain, the first ones of the shards. The arguments must
  // outlive the object.
  SampleValidation(const TrainConfig& config, const Corpus& corpus);

  // One row a domain and, last, "all"; before "all", of each domain that has contexts of several sizes and of all
  // domains together, a row a size.
  // No gradients.
  std::vector<SampleRow> run(const Cepe& model) const;

 private:
  const TrainConfig& config_;
  const Corpus& corpus_;
  std::vector<int64_t> documents_;  // index into Corpus::documents, of each sample
  std::vector<Sample> samples_;
};

}  // namespace cepe
