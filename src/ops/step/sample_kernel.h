// The CUDA kernel behind ops/step/sample.h, as raw pointers and plain structs: no torch here. Asynchronous on the given
// stream (a cudaStream_t) of the current device; a launch that CUDA refuses throws Error. Built only with CEPE_CUDA.
#pragma once

#include <cstdint>

namespace cepe::sample_kernel {

// Of a sequence; in device memory.
struct Settings {
  double temperature = 0, top_p = 1, min_p = 0;
  float repetition_penalty = 1;
  int32_t top_k = 0;
  uint64_t seed = 0, draws = 0;  // the kernel counts its draws
};

struct Args {
  const void* logits;  // (rows, stride) float32, or bfloat16
  bool bf16;
  int64_t rows, vocabulary, stride;
  Settings* settings;  // (rows)
  uint8_t* seen;       // (rows, vocabulary): not 0 for a token that was seen; the chosen one is marked
  float* scores;       // (rows, vocabulary) scratch
  uint64_t* weights;   // (rows, vocabulary) scratch
  int64_t* chosen;     // (rows)
  int32_t* failed;     // (rows): set to 1 where the logits cannot be sampled
};
void sample(const Args& args, void* stream);

}  // namespace cepe::sample_kernel
