#include "model/weight_type.h"

#include <ATen/ATen.h>

#include <vector>

#include "base/error.h"
#include "ops/gemm/fp8.h"

namespace cepe {
namespace {

int64_t bytes_of(const at::Tensor& x) { return static_cast<int64_t>(x.nbytes()); }

// What becomes of the matrix that is quantised.
enum class Wide { dropped, kept };

void pack(Linear& linear, WeightType type, Wide wide, QuantisedSizes& sizes) {
  if (!can_quantise(type, linear.weight.size(0), linear.weight.size(1))) {
    ++sizes.left;
    return;
  }
  linear.quantised = std::make_shared<QuantisedWeight>(quantise_weight(linear.weight, type));
  ++sizes.matrices;
  sizes.bytes_before += bytes_of(linear.weight);
  sizes.bytes += linear.quantised->bytes() + (wide == Wide::kept ? bytes_of(linear.weight) : 0);
  if (wide == Wide::dropped) linear.weight.reset();
}

std::vector<Linear*> own_matrices(Layer& layer) {
  SelfAttention& self = layer.self_attention;
  FeedForward& mlp = layer.feed_forward;
  return {&self.q, &self.k, &self.v, &self.o, &mlp.gate, &mlp.up, &mlp.down};
}

void pack_head(Decoder& decoder, bool tied, QuantisedSizes& sizes) {
  decoder.quantised_head = std::make_shared<QuantisedWeight>(quantise_weight(decoder.lm_head, WeightType::int8));
  ++sizes.matrices;
  sizes.bytes_before += bytes_of(decoder.lm_head);
  sizes.bytes += decoder.quantised_head->bytes();
  if (!tied) decoder.lm_head.reset();
}

void require_fp8(const Cepe& model) {
  const std::string refusal = fp8_refusal(model.device());
  require(refusal.empty(), "fp8 weights: {}", refusal);
  require(model.dtype() == at::kBFloat16, "fp8 weights: a model in bfloat16 is needed, found {}",
          c10::toString(model.dtype()));
}

}  // namespace

QuantisedSizes quantise_weights(Cepe& model, WeightType type) {
  QuantisedSizes sizes;
  if (type == WeightType::stored) return sizes;
  const at::NoGradGuard no_gradients;
  const bool fp8 = type == WeightType::fp8;
  if (fp8) require_fp8(model);
  for (Layer& layer : model.decoder.stack.layers) {
    for (Linear* linear : own_matrices(layer)) pack(*linear, type, Wide::dropped, sizes);
    auto& cross = layer.cross_attention;
    if (!cross) continue;
    pack(cross->q, type, Wide::dropped, sizes);
    pack(cross->o, type, Wide::dropped, sizes);
    if (fp8) pack(cross->k, type, Wide::kept, sizes), pack(cross->v, type, Wide::kept, sizes);
  }
  if (!fp8) {
    pack_head(model.decoder, model.config.decoder.tie_embeddings, sizes);
  } else if (model.encoder) {
    for (Layer& layer : model.encoder->stack.layers) {
      for (Linear* linear : own_matrices(layer)) pack(*linear, type, Wide::dropped, sizes);
    }
    Linear& projection = model.encoder->embed_projection;
    if (projection.weight.defined()) pack(projection, type, Wide::dropped, sizes);
  }
  return sizes;
}

int64_t weight_bytes(Cepe& model) {
  int64_t sum = 0;
  for (const Parameter& parameter : parameters(model))
    sum += parameter.value->defined() ? bytes_of(*parameter.value) : 0;
  const auto add = [&](const Linear& linear) { sum += linear.quantised ? linear.quantised->bytes() : 0; };
  const auto add_stack = [&](Stack& stack) {
    for (Layer& layer : stack.layers) {
      for (const Linear* linear : own_matrices(layer)) add(*linear);
      if (const auto& cross = layer.cross_attention) add(cross->q), add(cross->k), add(cross->v), add(cross->o);
    }
  };
  add_stack(model.decoder.stack);
  if (model.encoder) add_stack(model.encoder->stack), add(model.encoder->embed_projection);
  return sum + (model.decoder.quantised_head ? model.decoder.quantised_head->bytes() : 0);
}

WeightType weight_type_from_name(const std::string& name, const std::string& option) {
  for (const WeightType type : {WeightType::stored, WeightType::int8, WeightType::int4, WeightType::fp8}) {
    if (name == weight_type_name(type)) return type;
  }
  fail("{}: expected stored, int8, int4 or fp8, found \"{}\"", option, name);
}

}  // namespace cepe
