// What attention on latents reads, shared by the operation (latent_attention.h) and its backends.
#pragma once

#include <ATen/core/Tensor.h>

namespace cepe {

// What is attended to.
struct LatentStates {
  at::Tensor states_BSE;    // (B, S, E), or (1, S, E) for a context that the whole batch reads
  at::Tensor mask_BS = {};  // (B or 1, S) bool, true = a real token; undefined: all are
  // (B or 1, S) float32: states are in 8 bits (latent_int8.h); undefined: float32 or bfloat16.
  at::Tensor scales_BS = {};
  // States and mask are complete: no work that is still on the current stream writes them, as in a decoding step. A
  // kernel of a programmatic dependent launch may read them before its grid dependency sync.
  bool inputs_ready = false;
};

// States in 8 bits (latent_int8.h): state = scale * (value - 128). Bytes with an offset, because so they become float16
// numbers by moving bytes (docs/kernels/latent_int8.md).
struct Int8States {
  at::Tensor values;  // (..., E) uint8, 1 .. 255
  at::Tensor scales;  // (...) float32, above 0: the token's greatest magnitude / 127
};

}  // namespace cepe
