#include "train/objective.h"

#include <ATen/ATen.h>

#include "ops/ops.h"

namespace cepe {

namespace {

// States of the chunks that are left out are zeros, which the mask excludes.
Latents encode_batch(const Cepe& working, const Batch& batch) {
  if (!batch.encoded_R.defined()) return encode(working, {batch.ids_BML, batch.mask_BML});
  const int64_t B = batch.ids_BML.size(0), M = batch.ids_BML.size(1);
  const auto encoded = [&](const at::Tensor& of_BML) {
    return of_BML.flatten(0, 1).index_select(0, batch.encoded_R).unsqueeze(0);
  };
  const at::Tensor some = encode(working, {encoded(batch.ids_BML), encoded(batch.mask_BML)}).states_BSE;
  const int64_t E = some.size(-1), R = batch.encoded_R.size(0), states = some.size(1) / R;
  const at::Tensor all =
      at::zeros({B * M, states * E}, some.options()).index_copy(0, batch.encoded_R, some.view({R, states * E}));
  return {.states_BSE = all.view({B, M * states, E}), .mask_BS = states_mask(working, batch.mask_BML)};
}

}  // namespace

at::Tensor decode_batch(const Cepe& working, const Batch& batch) {
  const int64_t T = batch.decoder_BT1.size(1) - 1;
  Latents latents;
  DecodeInput input;
  input.ids_BT = batch.decoder_BT1.narrow(1, 0, T);
  if (batch.ids_BML.defined()) {
    latents = encode_batch(working, batch);
    input.context = &latents;
  }
  return decode(working, input);
}

at::Tensor read_as_text(const Cepe& working, const Batch& batch) {
  const at::NoGradGuard no_grad;
  const int64_t B = batch.decoder_BT1.size(0), T = batch.decoder_BT1.size(1) - 1;
  const at::Tensor decoder_BT = batch.decoder_BT1.narrow(1, 0, T);
  if (!batch.ids_BML.defined()) return decode(working, {.ids_BT = decoder_BT});
  const at::Tensor ids = at::cat({batch.ids_BML.flatten(1), decoder_BT}, 1);
  if (!batch.mask_BML.defined()) return decode(working, {.ids_BT = ids, .last = T});
  // Real tokens come first, in their order; masked ones follow, where no real one attends to them.
  const at::Tensor real_BS = batch.mask_BML.flatten(1);
  const at::Tensor masked = at::cat({real_BS.logical_not(), at::zeros({B, T}, real_BS.options())}, 1);
  const at::Tensor order = masked.to(at::kByte).argsort(/*stable=*/true, /*dim=*/1);
  const at::Tensor hidden = decode(working, {.ids_BT = ids.gather(1, order)});
  const at::Tensor place_BT = real_BS.sum(1, /*keepdim=*/true) + at::arange(T, ids.options());
  return hidden.gather(1, place_BT.unsqueeze(-1).expand({B, T, hidden.size(-1)}));
}

ScoredStates scored_states(const at::Tensor& hidden_BTD, const Batch& batch) {
  const int64_t B = hidden_BTD.size(0), T = hidden_BTD.size(1);
  const at::Tensor hidden = hidden_BTD.reshape({B * T, -1}), labels = batch.decoder_BT1.narrow(1, 1, T).reshape(-1);
  if (!batch.scored_N.defined()) return {hidden, labels};
  return {hidden.index_select(0, batch.scored_N), labels.index_select(0, batch.scored_N)};
}

at::Tensor evidence_weights(const Cepe& working, const Batch& batch, const at::Tensor& own_N, double evidence) {
  const at::NoGradGuard no_grad;
  const at::Tensor decoder_BT = batch.decoder_BT1.narrow(1, 0, batch.decoder_BT1.size(1) - 1);
  const ScoredStates alone = scored_states(decode(working, {.ids_BT = decoder_BT}), batch);
  const at::Tensor alone_N = linear_cross_entropy(alone.hidden_ND, working.decoder.lm_head, alone.labels_N);
  at::Tensor weights_N = (alone_N - own_N).clamp(0, kMostEvidence).mul(evidence).add(1).to(at::kFloat);
  if (batch.weight_N.defined()) weights_N = weights_N * batch.weight_N;
  return weights_N * (batch.weight / weights_N.sum());
}

at::Tensor NextToken::loss_sum(const Cepe& working, const Batch& batch) const {
  const ScoredStates scored = scored_states(decode_batch(working, batch), batch);
  const at::Tensor& head = working.decoder.lm_head;
  at::Tensor weight_N = batch.weight_N;
  if (evidence_ > 0 && !batch.asked && batch.ids_BML.defined()) {
    const at::Tensor own_N = linear_cross_entropy(scored.hidden_ND.detach(), head, scored.labels_N);
    weight_N = evidence_weights(working, batch, own_N, evidence_);
  }
  return linear_cross_entropy_sum(scored.hidden_ND, head, scored.labels_N, weight_N);
}

Distillation::Distillation(const TrainConfig& config)
    : lm_coefficient_(config.lm_coefficient),
      kl_coefficient_(config.kl_coefficient),
      kl_(config.kl),
      top_(config.kl_top),
      mode_(distill_mode_from_name(config.kl_mode, "train.kl_mode")) {}

at::Tensor Distillation::divergence(const at::Tensor& student_ND, const at::Tensor& teacher_ND, const Cepe& working,
                                    const Batch& batch) const {
  const at::Tensor& head = working.decoder.lm_head;
  const DistillationRows rows{.weight_N = batch.weight_N};
  if (kl_ == Divergence::full) return linear_distillation_sum(student_ND, teacher_ND, head, rows);
  return linear_top_k_distillation_sum(student_ND, head, linear_top_k(teacher_ND, head, top_), mode_, rows);
}

at::Tensor Distillation::loss_sum(const Cepe& working, const Batch& batch) const {
  // The teacher first: what it needs on the way is free again before the student's activations are kept.
  const at::Tensor teacher_ND = scored_states(read_as_text(working, batch), batch).hidden_ND;
  const ScoredStates student = scored_states(decode_batch(working, batch), batch);
  const at::Tensor kl = kl_coefficient_ * divergence(student.hidden_ND, teacher_ND, working, batch);
  if (lm_coefficient_ == 0) return kl;
  return kl + lm_coefficient_ * linear_cross_entropy_sum(student.hidden_ND, working.decoder.lm_head, student.labels_N,
                                                         batch.weight_N);
}

double Distillation::flops(const CepeConfig& config, const SampleShape& shape) const {
  return training_flops(config, shape) +
         reading_flops(config.decoder, shape.context_tokens + shape.decoder_tokens, shape.scored_tokens);
}

std::unique_ptr<Objective> make_objective(const TrainConfig& config) {
  if (config.stage == Stage::distill) return std::make_unique<Distillation>(config);
  return std::make_unique<NextToken>(config.evidence_weight);
}

}  // namespace cepe
