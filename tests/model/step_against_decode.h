// Steps of a batch against decode() of each sequence by itself.
#pragma once

#include <ATen/ATen.h>

#include <optional>

#include "model/decode_step.h"
#include "model/fixtures.h"

namespace cepe {

// One sequence's part of a batch's cache, empty.
inline KeyValueCache cache_of(const KeyValueCache& all, int64_t sequence) {
  KeyValueCache part;
  part.capacity = all.capacity;
  for (const LayerCache& layer : all.layers) {
    part.layers.push_back({layer.k_BSGK.narrow(0, sequence, 1), layer.v_BSGK.narrow(0, sequence, 1)});
  }
  return part;
}

// Sequences of random tokens: the first prompts[b] are read by decode(), so many `steps` follow.
struct StepRun {
  std::vector<int64_t> prompts;
  int64_t steps = 5;
  DecodeStepOptions options;
  // What the step was made for and ran with before it was given options.contexts.
  std::optional<std::vector<StepContext>> before = std::nullopt;
};

// The context of one sequence of the run, as decode() wants it.
inline Latents context_of(const StepRun& run, int64_t sequence) {
  for (const StepContext& context : run.options.contexts) {
    if (sequence < context.first || sequence >= context.first + context.count) continue;
    Latents own = context.latents;
    own.cache = nullptr;
    if (own.states_BSE.size(0) == 1) return own;
    own.states_BSE = own.states_BSE.narrow(0, sequence - context.first, 1);
    if (own.mask_BS.defined()) own.mask_BS = own.mask_BS.narrow(0, sequence - context.first, 1);
    return own;
  }
  return {};
}

// (B, prompt + steps) random tokens of a vocabulary, on the CPU, a row a sequence.
inline std::vector<at::Tensor> random_sequences(const StepRun& run, int64_t vocabulary) {
  std::vector<at::Tensor> rows;
  for (const int64_t prompt : run.prompts) rows.push_back(at::randint(vocabulary, {1, prompt + run.steps}, at::kLong));
  return rows;
}

// Logits of the steps, (B, steps, V): prompts by decode(), then the sequences' own tokens one by one.
inline at::Tensor logits_by_steps(const Cepe& model, const StepRun& run, const std::vector<at::Tensor>& sequences) {
  const int64_t B = static_cast<int64_t>(run.prompts.size());
  const int64_t longest = *std::max_element(run.prompts.begin(), run.prompts.end());
  const KeyValueCache cache = make_cache(model.decoder.stack, B, longest + run.steps);
  for (const LayerCache& layer : cache.layers) layer.k_BSGK.fill_(NAN), layer.v_BSGK.fill_(NAN);
  for (int64_t b = 0; b < B; ++b) {
    if (run.prompts[b] == 0) continue;
    KeyValueCache part = cache_of(cache, b);
    const Latents context = context_of(run, b);
    decode(model, {.ids_BT = sequences[b].narrow(1, 0, run.prompts[b]).to(model.device()),
                   .context = &context,
                   .cache = &part,
                   .last = 1});
  }
  DecodeStepOptions options = run.options;
  if (run.before) options.contexts = *run.before;
  DecodeStep step(model, cache, options);
  if (run.before) {
    step.place(std::vector<int64_t>(run.prompts.size(), 3), run.prompts);
    for (int64_t i = 0; i < 3; ++i) step.run();
    step.set_contexts(run.options.contexts);
  }
  std::vector<at::Tensor> all;
  for (int64_t i = 0; i < run.steps; ++i) {
    std::vector<int64_t> ids, positions;
    for (int64_t b = 0; b < B; ++b) {
      positions.push_back(run.prompts[b] + i);
      ids.push_back(sequences[b][0][positions.back()].item<int64_t>());
    }
    step.place(ids, positions);
    all.push_back(step.run().clone());
  }
  return at::stack(all, 1);
}

// The same by decode() of each whole sequence, without a cache.
inline at::Tensor logits_by_decode(const Cepe& model, const StepRun& run, const std::vector<at::Tensor>& sequences) {
  std::vector<at::Tensor> rows;
  for (size_t b = 0; b < sequences.size(); ++b) {
    Latents context = context_of(run, static_cast<int64_t>(b));
    if (context.states_BSE.defined()) context.states_BSE = context.states_BSE.to(model.dtype());
    const at::Tensor hidden =
        decode(model, {.ids_BT = sequences[b].to(model.device()), .context = &context, .last = run.steps});
    rows.push_back(logits(model, hidden));
  }
  return at::cat(rows);
}

// The model of the rounded matrices.
inline Cepe widened(const Cepe& packed) {
  Cepe model = packed;
  const auto widen = [](Linear& linear) {
    if (!linear.quantised) return;
    linear.weight = dequantise_weight(*linear.quantised, at::kBFloat16);
    linear.quantised.reset();
  };
  const auto widen_stack = [&](Stack& stack) {
    for (Layer& layer : stack.layers) {
      SelfAttention& self = layer.self_attention;
      FeedForward& mlp = layer.feed_forward;
      for (Linear* linear : {&self.q, &self.k, &self.v, &self.o, &mlp.gate, &mlp.up, &mlp.down}) widen(*linear);
      if (auto& cross = layer.cross_attention) widen(cross->q), widen(cross->k), widen(cross->v), widen(cross->o);
    }
  };
  widen_stack(model.decoder.stack);
  if (model.encoder) {
    widen_stack(model.encoder->stack);
    widen(model.encoder->embed_projection);
  }
  if (model.decoder.quantised_head) model.decoder.lm_head = head_weight(packed);
  model.decoder.quantised_head.reset();
  return model;
}

}  // namespace cepe
