#include "model/cost_model.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <limits>

#include "base/error.h"

namespace cepe {
namespace {

constexpr std::array kForms = {
    std::pair(CrossAttentionForm::automatic, "automatic"), std::pair(CrossAttentionForm::materialised, "materialised"),
    std::pair(CrossAttentionForm::absorbed, "absorbed"), std::pair(CrossAttentionForm::cached, "cached")};

// One call on one context in one layer.
struct Call {
  double operations = 0, seconds = 0;
};

// Attention takes the longer of its arithmetic and of reading what it attends to.
Call attend(double operations, double rate, double bytes, const DeviceRates& rates) {
  return {operations, std::max(operations / rate, bytes / rates.bytes)};
}

struct Sizes {
  explicit Sizes(const CrossAttentionWork& w)
      : E(static_cast<double>(w.latent_width)),
        H(static_cast<double>(w.heads)),
        G(static_cast<double>(w.kv_heads)),
        K(static_cast<double>(w.head_dim)),
        S(static_cast<double>(w.context_tokens)),
        element(static_cast<double>(w.element_bytes)),
        kept(w.kept_bytes > 0 ? w.kept_bytes : static_cast<double>(w.element_bytes)),
        latent(static_cast<double>(w.latent_bytes > 0 ? w.latent_bytes : w.element_bytes)) {}
  double E, H, G, K, S, element, kept, latent;
  double keys_values() const { return 2 * S * G * K; }
};

// Queries to the encoder's space and what they read back: 4 L H K E; attention with head size E: 4 S L H E.
Call absorbed(const Sizes& z, double rows, const DeviceRates& rates) {
  const double moved = 4 * rows * z.H * z.K * z.E;
  Call call = attend(4 * z.S * rows * z.H * z.E, rates.latent.at(rows * z.H), z.S * z.E * z.latent, rates);
  call.operations += moved;
  call.seconds += moved / rates.product;
  return call;
}

// Keys and values from the latents: 4 S E G K; written once.
Call projected(const Sizes& z, const DeviceRates& rates) {
  const double operations = 2 * z.E * z.keys_values();
  return {operations, operations / rates.product};
}

// Attention with head size K on keys and values: 4 S L H K.
Call materialised(const Sizes& z, double rows, const DeviceRates& rates) {
  const Call keys = projected(z, rates);
  const Call read = attend(4 * z.S * rows * z.H * z.K, rates.attention.at(rows), z.keys_values() * z.element, rates);
  return {keys.operations + read.operations, keys.seconds + read.seconds};
}

Call kept(const Sizes& z, double rows, const DeviceRates& rates) {
  return attend(4 * z.S * rows * z.H * z.K, rates.kept.at(rows * z.H / z.G), z.keys_values() * z.kept, rates);
}

}  // namespace

const char* cross_attention_form_name(CrossAttentionForm form) {
  for (const auto& [value, name] : kForms) {
    if (value == form) return name;
  }
  return "unknown";
}

CrossAttentionForm cross_attention_form_from_name(const std::string& name, const std::string& where) {
  std::string known;
  for (const auto& [value, spelling] : kForms) {
    if (name == spelling) return value;
    known += (known.empty() ? "" : ", ") + std::string(spelling);
  }
  fail("{}: expected one of {}, found \"{}\"", where, known, name);
}

DeviceRates equal_rates() {
  return {.product = 1e12,
          .attention = {1e12},
          .latent = {1e12},
          .kept = {1e12},
          .bytes = std::numeric_limits<double>::infinity()};
}

DeviceRates device_rates(const at::Device& device, at::ScalarType type) {
  if (device.is_cuda()) {
    // One H200. Measured: a product of 8192 x 8192 x 8192, cuDNN's attention of 4096 x 126,976 tokens with 32 heads of
    // 128, a copy of device memory (read and written), and attention on latents with 32 rows (215 TFLOP/s) and with 512
    // and 1024 (469 and 448).
    return {.product = 794e12, .attention = {626e12, 0}, .latent = {460e12, 37}, .kept = {357e12, 0}, .bytes = 4.25e12};
  }
  // Two threads of an AVX-512 server processor with avx512_bf16; docs/kernels/cpu.md and
  // bench/context_attention_bench. A quarter-filled tile costs as much as a whole one, hence half_rows. Forms are
  // chosen by ratios, which are alike elsewhere: latents over products 0.75 here, 0.64 on a Xeon, 0.70 where it is held
  // to AVX2.
  const double pairs = at::get_num_threads() / 2.0;
  DeviceRates rates =
      type == at::kBFloat16
          ? DeviceRates{.product = 440e9, .attention = {155e9, 20}, .latent = {178e9, 15}, .kept = {170e9, 7}}
          : DeviceRates{.product = 200e9, .attention = {130e9, 20}, .latent = {150e9, 8}, .kept = {170e9, 8}};
  rates.product *= pairs;
  for (AttentionRate* rate : {&rates.attention, &rates.latent, &rates.kept}) rate->rate *= pairs;
  rates.bytes = 25e9;
  return rates;
}

CrossAttentionCost cross_attention_cost(const CrossAttentionWork& work, const DeviceRates& rates,
                                        CrossAttentionForm form) {
  if (form == CrossAttentionForm::automatic) return choose_cross_attention(work, rates).cost;
  const Sizes z(work);
  const auto now = static_cast<double>(work.query_rows), later = static_cast<double>(work.step_rows);
  const double times = static_cast<double>(work.layers) * static_cast<double>(work.contexts);
  CrossAttentionCost cost;
  const auto add = [&](const Call& call, double calls) {
    cost.operations += times * calls * call.operations;
    cost.seconds += times * calls * call.seconds;
  };
  const auto steps = static_cast<double>(work.steps);
  if (form == CrossAttentionForm::cached) {
    if (!work.kept) add(projected(z, rates), 1);
    add(kept(z, now, rates), 1);
    add(kept(z, later, rates), steps);
    cost.bytes = static_cast<int64_t>(times * z.keys_values() * z.kept);
    return cost;
  }
  add(form == CrossAttentionForm::absorbed ? absorbed(z, now, rates) : materialised(z, now, rates), 1);
  const Call one = absorbed(z, later, rates), other = materialised(z, later, rates);
  add(one.seconds < other.seconds ? one : other, steps);
  return cost;
}

CrossAttentionChoice choose_cross_attention(const CrossAttentionWork& work, const DeviceRates& rates) {
  const CrossAttentionCost absorbed = cross_attention_cost(work, rates, CrossAttentionForm::absorbed);
  const CrossAttentionCost materialised = cross_attention_cost(work, rates, CrossAttentionForm::materialised);
  const CrossAttentionCost cached = cross_attention_cost(work, rates, CrossAttentionForm::cached);
  if (work.only_materialised) return {CrossAttentionForm::materialised, materialised};
  CrossAttentionChoice choice = absorbed.seconds < materialised.seconds
                                    ? CrossAttentionChoice{CrossAttentionForm::absorbed, absorbed}
                                    : CrossAttentionChoice{CrossAttentionForm::materialised, materialised};
  if (cached.seconds >= choice.cost.seconds) return choice;
  if (work.kept || cached.bytes <= work.memory_budget) return {CrossAttentionForm::cached, cached};
  if (work.memory_budget > 0) choice.bytes_over_budget = cached.bytes;
  return choice;
}

}  // namespace cepe
