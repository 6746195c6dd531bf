#include "train/objective.h"

#include <ATen/ATen.h>

#include "ops/ops.h"

namespace cepe {

at::Tensor decode_batch(const Cepe& working, const Batch& batch) {
  const int64_t T = batch.decoder_BT1.size(1) - 1;
  Latents latents;
  DecodeInput input;
  input.ids_BT = batch.decoder_BT1.narrow(1, 0, T);
  if (batch.ids_BML.defined()) {
    latents = encode(working, {batch.ids_BML, batch.mask_BML});
    input.context = &latents;
  }
  return decode(working, input);
}

ScoredStates scored_states(const at::Tensor& hidden_BTD, const Batch& batch) {
  const int64_t B = hidden_BTD.size(0), T = hidden_BTD.size(1);
  const at::Tensor hidden = hidden_BTD.reshape({B * T, -1}), labels = batch.decoder_BT1.narrow(1, 1, T).reshape(-1);
  if (!batch.scored_N.defined()) return {hidden, labels};
  return {hidden.index_select(0, batch.scored_N), labels.index_select(0, batch.scored_N)};
}

at::Tensor NextToken::loss_sum(const Cepe& working, const Batch& batch) const {
  const ScoredStates scored = scored_states(decode_batch(working, batch), batch);
  return linear_cross_entropy_sum(scored.hidden_ND, working.decoder.lm_head, scored.labels_N, batch.weight_N);
}

std::unique_ptr<Objective> make_objective(const TrainConfig&) { return std::make_unique<NextToken>(); }

}  // namespace cepe
