#include "model/merged_projections.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace cepe {
namespace {

at::Tensor merged(const std::vector<at::Tensor*>& parts) {
  std::vector<at::Tensor> values;
  for (const at::Tensor* part : parts) values.push_back(*part);
  const at::Tensor all = at::cat(values, 0);
  int64_t row = 0;
  for (at::Tensor* part : parts) {
    const int64_t rows = part->size(0);
    *part = all.narrow(0, row, rows);
    row += rows;
  }
  return all;
}

// Packed ones are shared and immutable: the parts get new ones, which look into the merged one.
bool merge_quantised_parts(const std::vector<Linear*>& parts, Linear& into) {
  std::vector<QuantisedWeight> views;
  for (const Linear* part : parts) views.push_back(*part->quantised);
  std::vector<QuantisedWeight*> pointers;
  for (QuantisedWeight& view : views) pointers.push_back(&view);
  const std::optional<QuantisedWeight> all = merge_quantised(pointers);
  if (!all) return false;
  into.quantised = std::make_shared<QuantisedWeight>(*all);
  for (size_t i = 0; i < parts.size(); ++i) parts[i]->quantised = std::make_shared<QuantisedWeight>(views[i]);
  return true;
}

bool merge(const std::vector<Linear*>& parts, Linear& into) {
  const bool biased = parts.front()->bias.defined(), quantised = parts.front()->quantised != nullptr;
  const auto fits = [&](const Linear* part) {
    const bool there = quantised ? part->quantised != nullptr : part->weight.defined();
    return there && part->bias.defined() == biased;
  };
  if (!std::all_of(parts.begin(), parts.end(), fits)) return false;
  if (quantised && !merge_quantised_parts(parts, into)) return false;
  std::vector<at::Tensor*> weights, biases;
  for (Linear* part : parts) {
    weights.push_back(&part->weight);
    biases.push_back(&part->bias);
  }
  if (!quantised) into.weight = merged(weights);
  if (biased) into.bias = merged(biases);
  return true;
}

}  // namespace

int64_t merge_projections(Cepe& model) {
  const at::NoGradGuard no_gradients;
  int64_t layers = 0;
  for (Layer& layer : model.decoder.stack.layers) {
    SelfAttention& self = layer.self_attention;
    FeedForward& mlp = layer.feed_forward;
    const bool attention = merge({&self.q, &self.k, &self.v}, self.qkv);
    const bool gates = merge({&mlp.gate, &mlp.up}, mlp.gate_up);
    layers += attention || gates;
  }
  return layers;
}

bool merging_pays(const Cepe& model) {
  const std::vector<Layer>& layers = model.decoder.stack.layers;
  const bool quantised = !layers.empty() && layers.front().self_attention.q.quantised != nullptr;
  return model.device().is_cuda() || model.dtype() == at::kBFloat16 || quantised;
}

}  // namespace cepe
