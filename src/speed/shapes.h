// Models of published sizes with random weights: what speed and memory depend on, without a download.
//
// A shape is named <decoder> (a plain decoder), <decoder>+mlm-large (the published encoder LLaMA-MLM-Large, and
// cross-attention in every layer), or <decoder>+<N>x<M> (an encoder of N layers like the decoder's, on the decoder's
// embeddings, and cross-attention in its last M layers: what cepe train makes). Examples: llama-2-7b+mlm-large,
// smollm2-135m+8x15.
#pragma once

#include <c10/core/Device.h>

#include <string>
#include <vector>

#include "model/cepe.h"

namespace cepe {

// The decoders that a shape can name, with the sizes of their published config.json.
std::vector<std::string> decoder_shape_names();

// The sizes that a name stands for. Error for one that is not known, listing those that are.
CepeConfig shape_config(const std::string& name);

// A model of these sizes, made in place on the device in dtype. Matrices are normal with standard deviation
// 1 / sqrt(columns), so that a normed input gives outputs of about unit size and activations stay finite through any
// number of layers; norms are ones, biases zeros. The same seed gives the same model on the same kind of device.
struct RandomModelOptions {
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
  uint64_t seed = 0;
};
Cepe random_model(const CepeConfig& config, const RandomModelOptions& options = {});

}  // namespace cepe
