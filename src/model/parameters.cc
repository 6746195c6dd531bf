#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "model/cepe.h"
#include "model/masked_lm/masked_lm.h"

namespace cepe {
namespace {

using Part = Parameter::Part;

// Collects the parameters of one stack under a prefix.
struct Collector {
  std::vector<Parameter>& out;
  Part part;
  int64_t encoder_width = 0;  // E, for cross-attention

  void add(const std::string& name, std::vector<int64_t> shape, at::Tensor& value, std::optional<Part> other = {}) {
    out.push_back({name, std::move(shape), other.value_or(part), &value});
  }
  void add_linear(const std::string& name, std::vector<int64_t> shape, Linear& linear, bool bias,
                  std::optional<Part> other = {}) {
    const int64_t rows = shape[0];
    add(name + ".weight", std::move(shape), linear.weight, other);
    if (bias) add(name + ".bias", {rows}, linear.bias, other);
  }
};

void collect_cross_attention(const std::string& prefix, const StackConfig& config, CrossAttention& cross,
                             Collector& collect) {
  const int64_t D = config.hidden_size, HK = config.num_heads * config.head_dim,
                GK = config.num_kv_heads * config.head_dim;
  const Part part = Part::cross_attention;
  const int64_t E = collect.encoder_width;
  collect.add_linear(prefix + "q_proj", {HK, D}, cross.q, false, part);
  collect.add_linear(prefix + "k_proj", {GK, E}, cross.k, false, part);
  collect.add_linear(prefix + "v_proj", {GK, E}, cross.v, false, part);
  collect.add_linear(prefix + "o_proj", {D, HK}, cross.o, false, part);
  collect.add(prefix + "layernorm.weight", {D}, cross.norm, part);
  const int64_t P = config.cross.position_buckets;
  if (config.cross.null_key) collect.add(prefix + "null_key", {GK}, cross.null_key, part);
  if (P > 0) collect.add(prefix + "position_keys", {P, GK}, cross.position_keys, part);
}

void collect_layer(const std::string& prefix, const StackConfig& config, Layer& layer, Collector& collect) {
  const int64_t D = config.hidden_size, F = config.intermediate_size, K = config.head_dim;
  SelfAttention& self = layer.self_attention;
  collect.add(prefix + "input_layernorm.weight", {D}, layer.input_norm);
  collect.add_linear(prefix + "self_attn.q_proj", {config.num_heads * K, D}, self.q, config.qkv_bias);
  collect.add_linear(prefix + "self_attn.k_proj", {config.num_kv_heads * K, D}, self.k, config.qkv_bias);
  collect.add_linear(prefix + "self_attn.v_proj", {config.num_kv_heads * K, D}, self.v, config.qkv_bias);
  collect.add_linear(prefix + "self_attn.o_proj", {D, config.num_heads * K}, self.o, config.output_bias);
  if (config.qk_norm) {
    collect.add(prefix + "self_attn.q_norm.weight", {K}, self.q_norm);
    collect.add(prefix + "self_attn.k_norm.weight", {K}, self.k_norm);
  }
  if (layer.cross_attention) collect_cross_attention(prefix + "cross_attn.", config, *layer.cross_attention, collect);
  collect.add(prefix + "post_attention_layernorm.weight", {D}, layer.post_attention_norm);
  collect.add_linear(prefix + "mlp.gate_proj", {F, D}, layer.feed_forward.gate, false);
  collect.add_linear(prefix + "mlp.up_proj", {F, D}, layer.feed_forward.up, false);
  collect.add_linear(prefix + "mlp.down_proj", {D, F}, layer.feed_forward.down, false);
}

void collect_stack(const std::string& prefix, Stack& stack, bool with_embedding, Collector& collect) {
  const StackConfig& config = stack.config;
  require(static_cast<int64_t>(stack.layers.size()) == config.num_layers,
          "parameters: {} has {} layers of {}: create_modules() makes them", prefix, stack.layers.size(),
          config.num_layers);
  if (with_embedding)
    collect.add(prefix + "embed_tokens.weight", {config.vocab_size, config.hidden_size}, stack.embedding);
  for (size_t i = 0; i < stack.layers.size(); ++i) {
    collect_layer(prefix + "layers." + std::to_string(i) + ".", config, stack.layers[i], collect);
  }
  collect.add(prefix + "norm.weight", {config.hidden_size}, stack.norm);
}

Linear cast(const Linear& linear, at::ScalarType dtype) {
  return {{linear.weight.to(dtype)}, linear.bias.defined() ? linear.bias.to(dtype) : at::Tensor()};
}

Layer cast(const Layer& layer, at::ScalarType dtype) {
  const auto tensor = [&](const at::Tensor& value) { return value.defined() ? value.to(dtype) : value; };
  const SelfAttention& self = layer.self_attention;
  Layer out;
  out.input_norm = tensor(layer.input_norm);
  out.post_attention_norm = tensor(layer.post_attention_norm);
  out.self_attention = {cast(self.q, dtype), cast(self.k, dtype), cast(self.v, dtype),
                        cast(self.o, dtype), tensor(self.q_norm), tensor(self.k_norm)};
  if (const auto& cross = layer.cross_attention) {
    out.cross_attention = CrossAttention{tensor(cross->norm),         cast(cross->q, dtype), cast(cross->k, dtype),
                                         cast(cross->v, dtype),       cast(cross->o, dtype), tensor(cross->null_key),
                                         tensor(cross->position_keys)};
  }
  const FeedForward& mlp = layer.feed_forward;
  out.feed_forward = {cast(mlp.gate, dtype), cast(mlp.up, dtype), cast(mlp.down, dtype)};
  return out;
}

Stack cast(const Stack& stack, at::ScalarType dtype) {
  Stack out;
  out.config = stack.config;
  out.recompute = stack.recompute;
  out.rotary = stack.rotary;
  if (stack.embedding.defined()) out.embedding = stack.embedding.to(dtype);
  out.norm = stack.norm.to(dtype);
  for (const Layer& layer : stack.layers) out.layers.push_back(cast(layer, dtype));
  return out;
}

}  // namespace

void create_modules(Cepe& model) {
  const CepeConfig& config = model.config;
  Stack& decoder = model.decoder.stack;
  decoder.config = config.decoder;
  decoder.layers.resize(config.decoder.num_layers);
  if (!config.encoder) return;
  if (!model.encoder) model.encoder.emplace();
  model.encoder->stack.config = *config.encoder;
  model.encoder->stack.layers.resize(config.encoder->num_layers);
  std::vector<int64_t> reading = config.decoder.cross.layers;
  if (reading.empty()) {
    reading.resize(static_cast<size_t>(config.num_cross_attn_layers));
    std::iota(reading.begin(), reading.end(), config.decoder.num_layers - config.num_cross_attn_layers);
  }
  for (const int64_t i : reading) {
    if (!decoder.layers[i].cross_attention) decoder.layers[i].cross_attention.emplace();
  }
}

void append_stack_parameters(Stack& stack, const std::string& prefix, Part part, bool with_embedding,
                             std::vector<Parameter>& out) {
  Collector collect{out, part};
  collect_stack(prefix, stack, with_embedding, collect);
}

std::vector<Parameter> parameters(Cepe& model) {
  require(model.config.encoder.has_value() == model.encoder.has_value(),
          "parameters: the model's encoder is not made: create_modules() makes it");
  const std::vector<Layer>& layers = model.decoder.stack.layers;
  const auto reads = [](const Layer& layer) { return layer.cross_attention.has_value(); };
  require(!model.encoder || std::count_if(layers.begin(), layers.end(), reads) == model.config.num_cross_attn_layers,
          "parameters: layers without their cross-attention: create_modules() makes it");
  std::vector<Parameter> out;
  Collector decoder_parts{out, Part::decoder, model.config.encoder ? model.config.encoder->hidden_size : 0};
  collect_stack("model.", model.decoder.stack, true, decoder_parts);
  const StackConfig& decoder = model.config.decoder;
  if (!decoder.tie_embeddings)
    out.push_back({"lm_head.weight", {decoder.vocab_size, decoder.hidden_size}, Part::decoder, &model.decoder.lm_head});
  if (!model.encoder) return out;
  append_stack_parameters(model.encoder->stack, "encoder.", Part::encoder,
                          model.config.encoder_embeddings == EncoderEmbeddings::own, out);
  if (model.config.encoder_embeddings == EncoderEmbeddings::decoder_projected) {
    out.push_back({"encoder.embed_projection.weight",
                   {model.config.encoder->hidden_size, decoder.hidden_size},
                   Part::encoder,
                   &model.encoder->embed_projection.weight});
  }
  return out;
}

void create_modules(MaskedLm& model) { model.stack.layers.resize(model.stack.config.num_layers); }

std::vector<Parameter> parameters(MaskedLm& model) {
  const int64_t E = model.stack.config.hidden_size, V = model.stack.config.vocab_size;
  std::vector<Parameter> out;
  append_stack_parameters(model.stack, "model.", Part::encoder, true, out);
  out.push_back({"lm_dense.weight", {E, E}, Part::encoder, &model.dense.weight});
  out.push_back({"lm_dense.bias", {E}, Part::encoder, &model.dense.bias});
  out.push_back({"lm_layer_norm.weight", {E}, Part::encoder, &model.layer_norm});
  if (!model.stack.config.tie_embeddings) out.push_back({"lm_head.weight", {V, E}, Part::encoder, &model.head});
  out.push_back({"lm_bias", {V}, Part::encoder, &model.bias});
  return out;
}

std::vector<at::Tensor> trained_weights(Layer layer, const StackConfig& config) {
  std::vector<Parameter> all;
  Collector collect{all, Part::decoder};
  collect_layer("", config, layer, collect);
  std::vector<at::Tensor> out;
  for (const Parameter& parameter : all) {
    if (parameter.value->defined() && parameter.value->requires_grad()) out.push_back(*parameter.value);
  }
  return out;
}

std::vector<Parameter> trainable_parameters(Cepe& model) {
  std::vector<Parameter> out;
  for (Parameter& parameter : parameters(model)) {
    if (parameter.part != Part::decoder) out.push_back(parameter);
  }
  return out;
}

void set_trainable(Cepe& model, bool trainable) {
  for (Parameter& parameter : trainable_parameters(model)) parameter.value->set_requires_grad(trainable);
}

Cepe cast(const Cepe& model, at::ScalarType dtype) {
  Cepe out;
  out.config = model.config;
  out.decoder.stack = cast(model.decoder.stack, dtype);
  out.decoder.lm_head = model.decoder.lm_head.to(dtype);
  if (model.encoder) {
    out.encoder.emplace();
    out.encoder->stack = cast(model.encoder->stack, dtype);
    if (model.encoder->embed_projection.weight.defined())
      out.encoder->embed_projection = cast(model.encoder->embed_projection, dtype);
  }
  return out;
}

MaskedLm cast(const MaskedLm& model, at::ScalarType dtype) {
  MaskedLm out;
  out.stack = cast(model.stack, dtype);
  out.dense = cast(model.dense, dtype);
  out.layer_norm = model.layer_norm.to(dtype);
  out.head = model.stack.config.tie_embeddings ? out.stack.embedding : model.head.to(dtype);
  out.bias = model.bias.to(dtype);
  return out;
}

}  // namespace cepe
