// What cross-attention costs in each of its forms (model/cross_attention.h), and which one a call should take:
// operation and byte counts from sizes alone, times from measured rates. The only place that decides;
// docs/cross-attention.md has the derivation and the measurements.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace cepe {

enum class CrossAttentionForm {
  automatic,     // whatever the cost model finds fastest
  materialised,  // keys and values are projected in every call, in blocks of the context
  absorbed,      // queries are moved into the encoder's space; attention on the latents themselves
  cached,        // keys and values are projected once for a context and kept beside its latents
};
const char* cross_attention_form_name(CrossAttentionForm form);  // "automatic", ...
// Error that names `where` and lists the names.
CrossAttentionForm cross_attention_form_from_name(const std::string& name, const std::string& where);

// Rates of a device. An attention kernel with few rows loads each key for few products, so that it reaches
// rate * rows / (rows + half_rows).
struct AttentionRate {
  double rate = 0;       // operations a second with many rows
  double half_rows = 0;  // rows with which half of it is reached
  double at(double rows) const { return rate * rows / (rows + half_rows); }
};
struct DeviceRates {
  double product = 0;       // operations a second of the projections of many tokens
  AttentionRate attention;  // LibTorch's, on keys and values just projected; rows: tokens
  AttentionRate latent;     // on latents (ops/latent/latent_attention.h); rows: tokens times heads
  AttentionRate kept;       // on kept keys and values (ops/context/context_attention.h); rows: of one key-value head
  double bytes = 0;         // bytes a second read from memory
};
// Measured for CPUs and H200s (where: cost_model.cc). A CPU's operations grow with the threads that LibTorch uses.
DeviceRates device_rates(const at::Device& device, at::ScalarType type);
// All operations cost the same and bytes nothing: forms compare by their operation counts.
DeviceRates equal_rates();

// Cross-attention of all layers over contexts of the same length: a call now, and calls that are expected later.
struct CrossAttentionWork {
  // One layer.
  int64_t latent_width = 0;  // E
  int64_t heads = 0;         // H
  int64_t kv_heads = 0;      // G
  int64_t head_dim = 0;      // K
  // The model and its contexts.
  int64_t layers = 1;              // with cross-attention
  int64_t contexts = 1;            // different ones in the batch
  int64_t context_tokens = 0;      // S, of each
  int64_t element_bytes = 2;       // of a key or a value
  double kept_bytes = 0;           // of one that is kept; 0: the same
  int64_t latent_bytes = 0;        // of a number of a latent; 0: the same
  bool kept = false;               // the contexts' keys and values are at hand already
  bool only_materialised = false;  // no other form computes it (cross_variants.h)
  // The calls.
  int64_t query_rows = 1;     // tokens that ask now, of each context: tokens times sequences that share it
  int64_t steps = 0;          // further calls that are expected on the same contexts
  int64_t step_rows = 1;      // tokens that ask in each of them
  int64_t memory_budget = 0;  // bytes that kept keys and values may take; 0: they are never made
};

struct CrossAttentionCost {
  double seconds = 0;     // of the call now and all expected ones
  double operations = 0;  // of the same
  int64_t bytes = 0;      // kept between calls, beside the latents
};
// A form's cost. Of `materialised` and `absorbed` the call now takes this form and each later one the better of the
// two; of `automatic`, the cost of what is chosen.
CrossAttentionCost cross_attention_cost(const CrossAttentionWork& work, const DeviceRates& rates,
                                        CrossAttentionForm form);

struct CrossAttentionChoice {
  CrossAttentionForm form = CrossAttentionForm::absorbed;  // of the call now; cached: of the later ones too
  CrossAttentionCost cost;
  // Keeping keys and values would be the fastest and needs more than the budget, namely so many bytes; 0: not so.
  int64_t bytes_over_budget = 0;
};
CrossAttentionChoice choose_cross_attention(const CrossAttentionWork& work, const DeviceRates& rates);

}  // namespace cepe
