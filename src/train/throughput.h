// Operations of a training step, for TFLOP/s and model FLOP utilisation.
#pragma once

#include <cstdint>

#include "model/config.h"

namespace cepe {

// A sample as it is computed, without padding.
struct SampleShape {
  int64_t context_tokens = 0, chunks = 0;  // chunks: of equal length in the mean
  int64_t decoder_tokens = 0;
  int64_t scored_tokens = 0;  // whose logits are computed
};
// Floating-point operations (a multiplication and an addition are two) of forward and backward for one sample. Counted:
// matrix products and attention (causal ones by half). Backward costs as much again for gradients of activations
// wherever a trained part lies below, and as much again for gradients of trained weights; recomputation is not counted.
double training_flops(const CepeConfig& config, const SampleShape& shape);
// The same of a plain decoder that reads a sequence, forward alone, with the logits of `scored` tokens.
double reading_flops(const StackConfig& decoder, int64_t tokens, int64_t scored);

// Forward and backward of a decoder that is trained whole and reads the sample's decoder tokens alone.
double decoder_training_flops(const StackConfig& decoder, const SampleShape& shape);
// The same of an encoder with its masked-LM head (its dense layer, and logits of what is scored) on a piece of the
// sample's decoder tokens.
double masked_lm_training_flops(const StackConfig& encoder, const SampleShape& shape);

}  // namespace cepe
