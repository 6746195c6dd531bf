#include "generate/contexts_at_work.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace cepe {

ContextsAtWork::ContextsAtWork(const Cepe& model, const ContextReading& reading, int64_t slots)
    : model_(model), reading_(reading) {
  const bool table = model.device().is_cuda() && slots > 1;
  if (table && reading.form == CrossAttentionForm::automatic) reading_.memory_budget = 0;
  if (!model.device().is_cpu()) reading_.kept.reset();
}

CrossAttentionChoice ContextsAtWork::chosen(const Latents& latents, const ContextUse& use) const {
  CrossAttentionWork work = cross_attention_work(model_.config.decoder, latents, use.prompt_tokens);
  work.layers = model_.config.num_cross_attn_layers;
  work.kept = latents.cache != nullptr;
  if (!latents.cache && reading_.kept)
    work.kept_bytes = cepe::kept_bytes(*reading_.kept, model_.config.decoder.head_dim);
  work.steps = use.steps;
  work.memory_budget = std::max<int64_t>(0, reading_.memory_budget - kept_bytes());
  const DeviceRates rates = device_rates(model_.device(), model_.dtype());
  if (reading_.form == CrossAttentionForm::automatic) return choose_cross_attention(work, rates);
  return {reading_.form, cross_attention_cost(work, rates, reading_.form)};
}

std::shared_ptr<ContextAtWork> ContextsAtWork::take(const std::shared_ptr<const Context>& context,
                                                    const ContextUse& use, CrossAttentionChoice& choice) {
  std::erase_if(entries_, [](const auto& entry) { return entry.second.expired(); });
  std::shared_ptr<ContextAtWork> entry = entries_[context.get()].lock();
  if (!entry) {
    entry = std::make_shared<ContextAtWork>(ContextAtWork{context, context->latents});
    entries_[context.get()] = entry;
  }
  choice = chosen(entry->latents, use);
  if (choice.form == CrossAttentionForm::cached && !entry->latents.cache) {
    entry->latents.cache = cache_context(model_.decoder.stack, entry->latents, reading_.kept);
  }
  return entry;
}

int64_t ContextsAtWork::count() const {
  return std::count_if(entries_.begin(), entries_.end(), [](const auto& entry) { return !entry.second.expired(); });
}

int64_t ContextsAtWork::kept_bytes() const {
  int64_t bytes = 0;
  for (const auto& [context, entry] : entries_) {
    const std::shared_ptr<ContextAtWork> held = entry.lock();
    if (held && held->latents.cache) bytes += held->latents.cache->bytes();
  }
  return bytes;
}

}  // namespace cepe
