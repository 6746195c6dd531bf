#include "model/weight_type.h"

#include <ATen/ATen.h>

#include <vector>

#include "base/error.h"
#include "ops/gemm/fp8.h"

namespace cepe {
namespace {

int64_t bytes_of(const at::Tensor& x) { return static_cast<int64_t>(x.nbytes()); }

std::vector<Linear*> own_matrices(Layer& layer) {
  SelfAttention& self = layer.self_attention;
  FeedForward& mlp = layer.feed_forward;
  return {&self.q, &self.k, &self.v, &self.o, &mlp.gate, &mlp.up, &mlp.down};
}

void add(std::vector<PackableMatrix>& to, Linear& linear, bool kept = false) {
  to.push_back({.wide = &linear.weight, .packed = &linear.quantised, .kept = kept});
}

void add_layers(std::vector<PackableMatrix>& to, Stack& stack) {
  for (Layer& layer : stack.layers) {
    for (Linear* linear : own_matrices(layer)) add(to, *linear);
    if (auto& cross = layer.cross_attention) add(to, cross->q), add(to, cross->o);
  }
}

void pack(const PackableMatrix& matrix, WeightType type, QuantisedSizes& sizes) {
  at::Tensor& wide = *matrix.wide;
  if (!*matrix.packed) {
    if (!can_quantise(type, wide.size(0), wide.size(1))) {
      ++sizes.left;
      return;
    }
    *matrix.packed = std::make_shared<QuantisedWeight>(quantise_weight(wide, type));
    sizes.bytes_before += bytes_of(wide);
    if (!matrix.kept) wide.reset();
  }
  ++sizes.matrices;
  sizes.bytes += (*matrix.packed)->bytes() + (matrix.kept ? bytes_of(wide) : 0);
}

void require_fp8(const Cepe& model) {
  const std::string refusal = fp8_refusal(model.device());
  require(refusal.empty(), "fp8 weights: {}", refusal);
  require(model.dtype() == at::kBFloat16, "fp8 weights: a model in bfloat16 is needed, found {}",
          c10::toString(model.dtype()));
}

}  // namespace

std::vector<PackableMatrix> packable_matrices(Cepe& model, WeightType type) {
  std::vector<PackableMatrix> out;
  if (type == WeightType::stored) return out;
  Decoder& decoder = model.decoder;
  add_layers(out, decoder.stack);
  if (type != WeightType::fp8) {
    const bool tied = model.config.decoder.tie_embeddings;
    at::Tensor& wide = tied ? decoder.stack.embedding : decoder.lm_head;
    out.push_back({.wide = &wide, .packed = &decoder.quantised_head, .kept = tied, .head = true});
    return out;
  }
  for (Layer& layer : decoder.stack.layers) {
    if (auto& cross = layer.cross_attention) add(out, cross->k, /*kept=*/true), add(out, cross->v, /*kept=*/true);
  }
  if (model.encoder) {
    add_layers(out, model.encoder->stack);
    if (model.encoder->embed_projection.weight.defined()) add(out, model.encoder->embed_projection);
  }
  return out;
}

std::vector<PackableMatrix> matrices_as_file(Cepe& model, const at::Device& device) {
  std::vector<PackableMatrix> out = packable_matrices(model, WeightType::int4);
  if (device.is_cpu() && model.encoder) add_layers(out, model.encoder->stack);
  return out;
}

QuantisedSizes quantise_weights(Cepe& model, WeightType type) {
  QuantisedSizes sizes;
  if (type == WeightType::stored) return sizes;
  const at::NoGradGuard no_gradients;
  if (type == WeightType::fp8) require_fp8(model);
  for (const PackableMatrix& matrix : packable_matrices(model, type)) {
    pack(matrix, matrix.head && type == WeightType::int4 ? WeightType::int8 : type, sizes);
  }
  return sizes;
}

std::map<WeightType, int64_t> packed_matrices(Cepe& model) {
  std::map<WeightType, int64_t> count;
  for (const PackableMatrix& matrix : matrices_as_file(model, model.device())) {
    if (*matrix.packed && (*matrix.packed)->type != WeightType::fp8) ++count[(*matrix.packed)->type];
  }
  return count;
}

int64_t weight_bytes(Cepe& model) {
  int64_t sum = 0;
  for (const Parameter& parameter : parameters(model))
    sum += parameter.value->defined() ? bytes_of(*parameter.value) : 0;
  const auto bytes = [](const auto& packed) { return packed ? packed->bytes() : int64_t{0}; };
  for (const PackableMatrix& matrix : packable_matrices(model, WeightType::fp8)) sum += bytes(*matrix.packed);
  return sum + bytes(model.decoder.quantised_head);
}

WeightType weight_type_from_name(const std::string& name, const std::string& option) {
  for (const WeightType type : {WeightType::stored, WeightType::int8, WeightType::int4, WeightType::fp8}) {
    if (name == weight_type_name(type)) return type;
  }
  fail("{}: expected auto, stored, int8, int4 or fp8, found \"{}\"", option, name);
}

}  // namespace cepe
