#include "model/masked_lm/masked_lm.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include "base/error.h"
#include "model/additions.h"

namespace cepe {
namespace {

constexpr double kStandardDeviation = 0.02;  // initializer_range of the published configuration

// Fills parameters that are still undefined.
void initialise(MaskedLm& model, uint64_t seed, at::Device device) {
  at::Generator generator = at::detail::createCPUGenerator(seed);
  for (const Parameter& parameter : parameters(model)) {
    if (parameter.value->defined()) continue;
    const bool bias = parameter.name.ends_with(".bias") || parameter.name == "lm_bias";
    at::Tensor value = bias ? at::zeros(parameter.shape, at::kFloat) : at::ones(parameter.shape, at::kFloat);
    if (parameter.shape.size() > 1) value.normal_(0, kStandardDeviation, generator);
    *parameter.value = value.to(device);
  }
  tie_head(model);
}

}  // namespace

at::Tensor masked_lm_encode(const MaskedLm& model, const at::Tensor& ids_BL, const at::Tensor& mask_BL) {
  return encode_embedded(model.stack, at::embedding(model.stack.embedding, ids_BL), mask_BL);
}

at::Tensor masked_lm_transform(const MaskedLm& model, const at::Tensor& states) {
  return rms_norm(at::silu(model.dense(states)), model.layer_norm, model.stack.config.rms_norm_eps);
}

at::Tensor masked_lm_logits(const MaskedLm& model, const at::Tensor& ids_BL, const at::Tensor& mask_BL) {
  return at::linear(masked_lm_transform(model, masked_lm_encode(model, ids_BL, mask_BL)), model.head) + model.bias;
}

void tie_head(MaskedLm& model) {
  if (model.stack.config.tie_embeddings) model.head = model.stack.embedding;
}

MaskedLm random_masked_lm(const StackConfig& config, uint64_t seed, at::Device device) {
  MaskedLm model;
  model.stack.config = config;
  create_modules(model);
  initialise(model, seed, device);
  return model;
}

MaskedLm masked_lm_from_decoder(const Cepe& decoder, const FromDecoderOptions& options) {
  const Stack& from = decoder.decoder.stack;
  require(options.layers >= 1 && options.layers <= from.config.num_layers,
          "encoder layers: {} asked for, the decoder has {} to take them from", options.layers, from.config.num_layers);
  MaskedLm model;
  StackConfig& config = model.stack.config;
  config = encoder_config_of(from.config, options.layers, options.window);
  config.vocab_size += options.extra_rows;
  config.tie_embeddings = true;
  create_modules(model);
  Stack source;  // the decoder's first layers under the names of the encoder's; tensors are shared until copied
  source.config = config;
  source.config.vocab_size = from.config.vocab_size;
  source.embedding = from.embedding;
  source.norm = from.norm;
  source.layers.assign(from.layers.begin(), from.layers.begin() + options.layers);
  for (Layer& layer : source.layers) layer.cross_attention.reset();
  std::vector<Parameter> there, here;
  append_stack_parameters(source, "model.", Parameter::Part::encoder, true, there);
  append_stack_parameters(model.stack, "model.", Parameter::Part::encoder, true, here);
  for (size_t i = 0; i < here.size(); ++i) *here[i].value = float32_copy(*there[i].value);
  if (options.extra_rows > 0) {
    at::Tensor& embedding = model.stack.embedding;
    const at::Tensor mean = embedding.mean(0, /*keepdim=*/true);
    embedding = at::cat({embedding, mean.expand({options.extra_rows, embedding.size(1)})}).contiguous();
  }
  initialise(model, options.seed, model.stack.norm.device());
  return model;
}

}  // namespace cepe
