// What a step's loss is: an objective. The trainer draws batches, runs the objective on each, and divides by the sum of
// the weights of all of them, so that a step's gradient does not depend on how it is cut into batches.
#pragma once

#include <memory>

#include "model/cepe.h"
#include "ops/distillation.h"
#include "train/batches.h"

namespace cepe {

class Objective {
 public:
  virtual ~Objective() = default;
  // The sum of weight x loss over what the batch scores (the weights sum to batch.weight): a scalar in float32 on the
  // model's device, through which gradients flow into the trained parts. working: the model in the arithmetic's type.
  // Nothing here waits for the device.
  virtual at::Tensor loss_sum(const Cepe& working, const Batch& batch) const = 0;
  // Operations of forward and backward for one sample (throughput.h).
  virtual double flops(const CepeConfig& config, const SampleShape& shape) const {
    return training_flops(config, shape);
  }
};

// -log p of each scored label, the decoder reading its own tokens before it and the sample's context: stages standard,
// warmup and ask.
class NextToken : public Objective {
 public:
  // evidence: evidence_weights() of plain samples; 0: every label weighs the same.
  explicit NextToken(double evidence = 0) : evidence_(evidence) {}
  at::Tensor loss_sum(const Cepe& working, const Batch& batch) const override;

 private:
  const double evidence_;
};

// Distillation: lm_coefficient x next-token loss + kl_coefficient x KL(teacher || student), both of each scored
// position (method: "Training", CEPED). The student is the model; the teacher is its frozen decoder reading, without
// gradients, the same tokens as one plain sequence: of the context those that are not masked, then the decoder's.
class Distillation : public Objective {
 public:
  explicit Distillation(const TrainConfig& config);
  at::Tensor loss_sum(const Cepe& working, const Batch& batch) const override;
  double flops(const CepeConfig& config, const SampleShape& shape) const override;

 private:
  at::Tensor divergence(const at::Tensor& student_ND, const at::Tensor& teacher_ND, const Cepe& working,
                        const Batch& batch) const;

  const double lm_coefficient_, kl_coefficient_;
  const Divergence kl_;
  const int64_t top_;       // tokens of Divergence::top
  const DistillMode mode_;  // of Divergence::top
};

// Weights of a batch's scored labels by what the context tells of them (as EXACT has it): in proportion to 1 + evidence
// x the nats by which the context raises log p(label), at least 0 and at most kMostEvidence; their sum is the batch's
// own. own_N: -log p of each label with its context. No gradients. (N) float32.
constexpr double kMostEvidence = 4;
at::Tensor evidence_weights(const Cepe& working, const Batch& batch, const at::Tensor& own_N, double evidence);

std::unique_ptr<Objective> make_objective(const TrainConfig& config);

// The decoder's last hidden states of a batch's samples, each with its own context: (B, T, D).
at::Tensor decode_batch(const Cepe& working, const Batch& batch);
// The same positions of the frozen decoder, which reads each sample's context itself, as text before its own tokens.
// No gradients, no cross-attention; context and decoder tokens must fit into its window. (B, T, D).
at::Tensor read_as_text(const Cepe& working, const Batch& batch);
// Of such states, and of the batch's labels, those that are scored: (N, D) and (N).
struct ScoredStates {
  at::Tensor hidden_ND, labels_N;
};
ScoredStates scored_states(const at::Tensor& hidden_BTD, const Batch& batch);

}  // namespace cepe
