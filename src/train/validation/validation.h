// Validation during training: next-token loss on held-out samples of the training layout, with their own context,
// with another document's, and without any; the decoder's tokens are the same in all three.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "model/cepe.h"
#include "train/batches.h"
#include "train/samples/held_out_spans.h"

namespace cepe {

// Mean losses over the samples of one domain. Unset where not defined: a domain of a single document has no other.
struct ValidationRow {
  std::string domain;
  int64_t samples = 0;
  double own = 0, none = 0;     // loss with the sample's own context, and without
  std::optional<double> other;  // with the context of a sample of another document of the domain
  // 1 - perplexity(own) / perplexity(other): what is read out of the context.
  std::optional<double> reading_gain() const;
};

class Validation {
 public:
  // Draws config.validation_samples samples, as many from each domain that has documents long enough; where none has,
  // from all documents concatenated. Always the same ones. config must outlive the object.
  Validation(const TrainConfig& config, const Corpus& corpus);

  // One row a domain and, last, "all" (the mean of the samples). No gradients.
  std::vector<ValidationRow> run(const Cepe& model) const;

 private:
  struct Span : HeldOutSpan {
    int64_t other = -1;  // sample whose context stands for another document's; -1: none
  };
  void pair_with_other_documents();

  const TrainConfig& config_;
  std::vector<std::string> domains_;
  std::vector<Span> spans_;
};

}  // namespace cepe
