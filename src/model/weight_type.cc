#include "model/weight_type.h"

#include <ATen/ATen.h>

#include "base/error.h"

namespace cepe {
namespace {

int64_t bytes_of(const at::Tensor& x) { return static_cast<int64_t>(x.nbytes()); }

void pack(Linear& linear, WeightType type, PackedSizes& sizes) {
  if (!can_pack(type, linear.weight.size(0), linear.weight.size(1))) {
    ++sizes.left;
    return;
  }
  linear.packed = std::make_shared<PackedWeight>(pack_weight(linear.weight, type));
  ++sizes.matrices;
  sizes.bytes_before += bytes_of(linear.weight);
  sizes.bytes += linear.packed->bytes();
  linear.weight.reset();
}

}  // namespace

PackedSizes pack_weights(Cepe& model, WeightType type) {
  PackedSizes sizes;
  if (type == WeightType::stored) return sizes;
  const at::NoGradGuard no_gradients;
  for (Layer& layer : model.decoder.stack.layers) {
    SelfAttention& self = layer.self_attention;
    FeedForward& mlp = layer.feed_forward;
    for (Linear* linear : {&self.q, &self.k, &self.v, &self.o, &mlp.gate, &mlp.up, &mlp.down}) pack(*linear, type, sizes);
    if (auto& cross = layer.cross_attention) {
      pack(cross->q, type, sizes);
      pack(cross->o, type, sizes);
    }
  }
  Decoder& decoder = model.decoder;
  decoder.packed_head = std::make_shared<PackedWeight>(pack_weight(decoder.lm_head, WeightType::int8));
  ++sizes.matrices;
  sizes.bytes_before += bytes_of(decoder.lm_head);
  sizes.bytes += decoder.packed_head->bytes();
  if (!model.config.decoder.tie_embeddings) decoder.lm_head.reset();
  return sizes;
}

int64_t weight_bytes(Cepe& model) {
  int64_t sum = 0;
  for (const Parameter& parameter : parameters(model)) sum += parameter.value->defined() ? bytes_of(*parameter.value) : 0;
  const auto add = [&](const Linear& linear) { sum += linear.packed ? linear.packed->bytes() : 0; };
  for (const Layer& layer : model.decoder.stack.layers) {
    const SelfAttention& self = layer.self_attention;
    const FeedForward& mlp = layer.feed_forward;
    for (const Linear* linear : {&self.q, &self.k, &self.v, &self.o, &mlp.gate, &mlp.up, &mlp.down}) add(*linear);
    if (layer.cross_attention) add(layer.cross_attention->q), add(layer.cross_attention->o);
  }
  return sum + (model.decoder.packed_head ? model.decoder.packed_head->bytes() : 0);
}

WeightType weight_type_from_name(const std::string& name) {
  for (const WeightType type : {WeightType::stored, WeightType::int8, WeightType::int4}) {
    if (name == weight_type_name(type)) return type;
  }
  fail("--weights: expected stored, int8 or int4, found \"{}\"", name);
}

}  // namespace cepe
