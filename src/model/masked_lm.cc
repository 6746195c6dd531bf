#include "model/masked_lm.h"

#include <ATen/ATen.h>

namespace cepe {

at::Tensor masked_lm_logits(const MaskedLm& model, const at::Tensor& ids_BL, const at::Tensor& mask_BL) {
  const at::Tensor states = encode_embedded(model.stack, at::embedding(model.stack.embedding, ids_BL), mask_BL);
  const at::Tensor hidden = rms_norm(at::silu(model.dense(states)), model.layer_norm, model.stack.config.rms_norm_eps);
  return at::linear(hidden, model.head) + model.bias;
}

}  // namespace cepe
