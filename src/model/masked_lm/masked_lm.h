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
// In checkpoint order. With tied embeddings the head is not listed.
std::vector<Parameter> parameters(MaskedLm& model);
void tie_head(MaskedLm& model);  // makes the embedding the head where the configuration ties them

// As cast() of a whole model (cepe.h): gradients flow back to the originals.
MaskedLm cast(const MaskedLm& model, at::ScalarType dtype);

// The encoder's states h, (B, L, E). mask (B, L) bool, may be undefined.
at::Tensor masked_lm_encode(const MaskedLm& model, const at::Tensor& ids_BL, const at::Tensor& mask_BL);
// norm(silu(dense(h))), of any rows of them, (..., E): what the head reads.
at::Tensor masked_lm_transform(const MaskedLm& model, const at::Tensor& states);
// logits = head(norm(silu(dense(h)))) + bias, (B, L, V).
at::Tensor masked_lm_logits(const MaskedLm& model, const at::Tensor& ids_BL, const at::Tensor& mask_BL);

// A fresh model in float32 on the device, as the published one began (transformers' initialisation of Llama): matrices
// and embedding from N(0, 0.02), norms 1, biases 0. The same seed gives the same weights on every device.
MaskedLm random_masked_lm(const StackConfig& config, uint64_t seed, at::Device device);

// A model whose encoder is a decoder's first layers, made bidirectional, with copies of its embedding and final norm;
// the head is fresh and tied. The embedding has `extra_rows` rows more, each the mean of the decoder's. Error where the
// decoder has fewer layers.
struct FromDecoderOptions {
  int64_t layers = 8;
  int64_t window = 512;  // max_positions
  int64_t extra_rows = 0;
  uint64_t seed = 1;  // of the head
};
MaskedLm masked_lm_from_decoder(const Cepe& decoder, const FromDecoderOptions& options);

}  // namespace cepe
