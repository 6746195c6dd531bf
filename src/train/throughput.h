// Operations of a training step, for TFLOP/s and model FLOP utilisation.
#pragma once

#include <cstdint>

#include "model/config.h"

namespace cepe {

// Floating-point operations (a multiplication and an addition are two) of forward and backward for one sample of
// `chunks` chunks of `chunk_length` tokens and `decoder_tokens`. Counted: matrix products and attention (causal ones by
// half). Backward costs as much again for gradients of activations wherever a trained part lies below, and as much
// again for gradients of trained weights; recomputation is not counted.
struct SampleShape {
  int64_t chunks, chunk_length, decoder_tokens;
};
double training_flops(const CepeConfig& config, const SampleShape& shape);

}  // namespace cepe
