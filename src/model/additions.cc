#include "model/additions.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>

#include "base/error.h"

namespace cepe {

at::Tensor float32_copy(const at::Tensor& value) {
  return value.detach().to(at::kFloat, /*non_blocking=*/false, /*copy=*/true);
}

namespace {

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

// The decoder's parameters by name.
std::map<std::string, at::Tensor> decoder_weights(Cepe& model) {
  std::map<std::string, at::Tensor> weights;
  for (const Parameter& parameter : parameters(model)) {
    if (parameter.part == Parameter::Part::decoder) weights[parameter.name] = *parameter.value;
  }
  return weights;
}

// Those that a variant adds (cross_variants.h).
bool is_of_variant(const Parameter& parameter) {
  return parameter.name.ends_with("cross_attn.null_key") || parameter.name.ends_with("cross_attn.position_keys");
}

at::Tensor zeros_of(const Parameter& parameter, const Cepe& model) {
  return at::zeros(parameter.shape, at::TensorOptions(at::kFloat).device(model.device()));
}

void initialise_cross_attention(Cepe& model, bool zero_output) {
  const std::map<std::string, at::Tensor> source = decoder_weights(model);
  for (const Parameter& parameter : parameters(model)) {
    if (parameter.part != Parameter::Part::cross_attention) continue;
    if (is_of_variant(parameter)) {
      *parameter.value = zeros_of(parameter, model);
      continue;
    }
    // Weights alone: cross-attention has no biases and no norms of heads, whatever self-attention has.
    std::string name = replaced(parameter.name, "cross_attn.layernorm", "post_attention_layernorm");
    name = replaced(name, "cross_attn.", "self_attn.");
    at::Tensor value = float32_copy(source.at(name));
    if (value.dim() == 2) value = value.narrow(1, 0, parameter.shape[1]).contiguous();
    const bool output = parameter.name.find("cross_attn.o_proj") != std::string::npos;
    if (output && zero_output) value.zero_();
    *parameter.value = value;
  }
}

// As many as the options say, or in the layers that the configuration names.
int64_t cross_attention_layers(const AdditionOptions& options, const StackConfig& decoder) {
  const auto named = static_cast<int64_t>(decoder.cross.layers.size());
  return named > 0 ? named : options.cross_attention_layers;
}

void check_options(const AdditionOptions& options, const StackConfig& decoder, int64_t encoder_window) {
  const int64_t layers = cross_attention_layers(options, decoder);
  require(layers >= 1 && layers <= decoder.num_layers, "cross-attention layers: {} asked for, the decoder has {}",
          layers, decoder.num_layers);
  require(options.chunk_length >= 1 && options.chunk_length <= encoder_window,
          "chunks of {} tokens exceed the encoder's window of {}", options.chunk_length, encoder_window);
}

}  // namespace

int64_t readable_tokens(const CepeConfig& config) {
  const int64_t rows = config.decoder.vocab_size;
  const bool own = config.encoder && config.encoder_embeddings == EncoderEmbeddings::own;
  return own ? std::min(rows, config.encoder->vocab_size) : rows;
}

StackConfig encoder_config_of(const StackConfig& decoder, int64_t layers, int64_t window) {
  StackConfig encoder = decoder;
  encoder.num_layers = layers;
  encoder.max_positions = window;
  encoder.tie_embeddings = false;
  encoder.sliding_window = encoder.chosen_window = 0;  // it attends to all of a chunk
  encoder.cross = {};
  return encoder;
}

void set_cross_variants(Cepe& model, const CrossVariants& variants, const std::string& where) {
  check_cross_variants(variants, model.config.decoder.num_layers, where);
  model.config.decoder.cross = model.decoder.stack.config.cross = variants;
  if (!model.encoder) return;
  for (const Parameter& parameter : parameters(model)) {
    if (is_of_variant(parameter) && !parameter.value->defined()) *parameter.value = zeros_of(parameter, model);
  }
}

void add_cepe_parts(Cepe& model, const AdditionOptions& options) {
  const StackConfig& decoder = model.config.decoder;
  require(options.encoder_layers >= 1 && options.encoder_layers <= decoder.num_layers,
          "encoder layers: {} asked for, the decoder has {} to take them from", options.encoder_layers,
          decoder.num_layers);
  check_options(options, decoder, options.encoder_window);
  model.config.encoder = encoder_config_of(decoder, options.encoder_layers, options.encoder_window);
  model.config.encoder_embeddings = EncoderEmbeddings::decoder;
  model.config.num_cross_attn_layers = cross_attention_layers(options, decoder);
  model.config.chunk_length = options.chunk_length;
  model.encoder.emplace();
  create_modules(model);
  const std::map<std::string, at::Tensor> source = decoder_weights(model);
  for (const Parameter& parameter : parameters(model)) {
    if (parameter.part == Parameter::Part::encoder)
      *parameter.value = float32_copy(source.at(replaced(parameter.name, "encoder.", "model.")));
  }
  initialise_cross_attention(model, options.zero_output);
}

void add_cepe_parts(Cepe& model, const AdditionOptions& options, const Stack& encoder) {
  const StackConfig& decoder = model.config.decoder;
  check_options(options, decoder, encoder_window(encoder.config));
  require(encoder.config.hidden_size <= decoder.hidden_size,
          "cross-attention's k and v are copied from the first columns of self-attention's: the encoder's width {} "
          "exceeds the decoder's {}",
          encoder.config.hidden_size, decoder.hidden_size);
  model.config.encoder = encoder.config;
  model.config.encoder->tie_embeddings = false;  // it has no head here
  model.config.encoder_embeddings = EncoderEmbeddings::own;
  model.config.num_cross_attn_layers = cross_attention_layers(options, decoder);
  model.config.chunk_length = options.chunk_length;
  model.encoder.emplace();
  model.encoder->stack = encoder;
  create_modules(model);
  initialise_cross_attention(model, options.zero_output);
}

}  // namespace cepe
