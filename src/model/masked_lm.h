// LlamaForMLM: the encoder with its masked-language-model head, as published (hyen/LLaMA-MLM-Large).
#pragma once

#include "model/cepe.h"

namespace cepe {

struct MaskedLm {
  Stack stack;            // model.*
  Linear dense;           // lm_dense (E, E) with bias
  at::Tensor layer_norm;  // lm_layer_norm (E)
  at::Tensor head;        // lm_head.weight (V, E); the embedding when tied
  at::Tensor bias;        // lm_bias (V)
};

void create_modules(MaskedLm& model);  // the layers, empty, of its configuration
std::vector<Parameter> parameters(MaskedLm& model);

// logits = head(norm(silu(dense(h)))) + bias, (B, L, V). mask (B, L) bool, may be undefined.
at::Tensor masked_lm_logits(const MaskedLm& model, const at::Tensor& ids_BL, const at::Tensor& mask_BL);

}  // namespace cepe
