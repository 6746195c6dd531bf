#include "model/decode_step.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "base/error.h"
#include "ops/gemv/gemv.h"

namespace cepe {
namespace {

at::Tensor queries_keys_values(const SelfAttention& weights, const at::Tensor& normed_BD) {
  if (weights.qkv.weight.defined()) return weights.qkv(normed_BD);
  return at::cat({weights.q(normed_BD), weights.k(normed_BD), weights.v(normed_BD)}, 1);
}

at::Tensor step_feed_forward(const FeedForward& weights, const at::Tensor& normed_BD) {
  if (weights.gate_up.weight.defined()) return weights.down(step_swiglu(weights.gate_up(normed_BD)));
  return feed_forward(weights, normed_BD);
}

// Whether a layer's products are so large that kernels which go through all multiprocessors pay (chains, and tiles of
// more than kGemvRows rows): what they lose at their edges must be little beside what their weights take.
bool large_layers(const StackConfig& config) {
  constexpr int64_t kLeastWeights = 40'000'000;
  const int64_t heads = 2 * (config.num_heads + config.num_kv_heads) * config.head_dim;
  return (heads + 3 * config.intermediate_size) * config.hidden_size >= kLeastWeights;
}

// Whether every product of the decoder's layers is one of our kernels, which takes in what stands around it.
bool products_join(const Cepe& model, int64_t batch, StepChain chain = StepChain::automatic) {
  const Decoder& decoder = model.decoder;
  const bool tiles = chain == StepChain::automatic ? large_layers(decoder.stack.config) : chain == StepChain::always;
  const auto joins = [&](const Linear& linear, bool gated = false) {
    if (!linear.quantised && !linear.weight.defined()) return false;
    const int64_t inputs = linear.quantised ? linear.quantised->in : linear.weight.size(1);
    const at::Tensor x = at::empty({batch, inputs}, model.any_weight().options());
    if (linear.quantised) return gemv_applies(x, *linear.quantised);
    return gemv_applies(x, linear.weight) || (tiles && skinny_gemm_applies(x, linear.weight, gated));
  };
  return std::all_of(decoder.stack.layers.begin(), decoder.stack.layers.end(), [&](const Layer& layer) {
    const SelfAttention& self = layer.self_attention;
    const FeedForward& mlp = layer.feed_forward;
    return joins(self.qkv) && joins(self.o) && joins(mlp.gate_up, /*gated=*/true) && joins(mlp.down) &&
           (!layer.cross_attention || (joins(layer.cross_attention->q) && joins(layer.cross_attention->o)));
  });
}

// Those that hold a token and are read.
std::vector<StepContext> read_contexts_of(const std::vector<StepContext>& contexts) {
  std::vector<StepContext> read;
  for (const StepContext& context : contexts) {
    if (context.latents.tokens() > 0 && context.count > 0) read.push_back(context);
  }
  return read;
}

void check_contexts(const std::vector<StepContext>& contexts, int64_t batch) {
  int64_t taken = 0;
  for (const StepContext& context : contexts) {
    const int64_t states = context.latents.states_BSE.size(0), end = context.first + context.count;
    require(context.first >= taken && end <= batch,
            "decoding step: a context for sequences {} to {} of a batch of {}, where {} is the first without one",
            context.first, end - 1, batch, taken);
    require(states == 1 || states == context.count, "decoding step: {} contexts for {} sequences", states,
            context.count);
    taken = end;
  }
}

// Whether one kernel call reads them without a table: they are the whole batch's, of one length.
bool alike(const std::vector<StepContext>& contexts, int64_t batch) {
  return contexts.empty() || (contexts.size() == 1 && contexts[0].count == batch);
}

// The queries of cross-attention.
TableBatch table_batch(const Cepe& model, int64_t batch) {
  TableBatch made{model.device(), model.dtype(), batch, model.config.decoder.num_heads, 0};
  for (const Layer& layer : model.decoder.stack.layers) {
    if (layer.cross_attention) made.width = layer.cross_attention->k.weight.size(1);
  }
  return made;
}

}  // namespace

bool can_step(const Cepe& model, int64_t capacity) {
  const StackConfig& config = model.config.decoder;
  return config.rope.kind != RopeKind::dynamic || capacity <= config.max_positions;
}

StepChain step_chain_from_name(const std::string& name) {
  if (name == "automatic") return StepChain::automatic;
  if (name == "always") return StepChain::always;
  require(name == "never", "chain: expected automatic, always or never, found \"{}\"", name);
  return StepChain::never;
}

bool step_pays(const Cepe& model) {
  const bool fused = step_attention_is_fused(model.device(), model.dtype(), model.config.decoder.head_dim);
  return fused && (model.device().is_cuda() || products_join(model, 1));
}

DecodeStep::DecodeStep(const Cepe& model, const KeyValueCache& cache, const DecodeStepOptions& options)
    : model_(model), cache_(cache), options_(options) {
  const at::NoGradGuard no_gradients;
  const Stack& stack = model.decoder.stack;
  const int64_t B = cache_.layers.at(0).k_BSGK.size(0);
  const int64_t slides = stack.config.sliding_window;
  require(slides == 0 || cache.capacity <= slides,
          "decoding step: a cache of {} tokens exceeds the window of {} over which the decoder's attention slides",
          cache.capacity, slides);
  require(can_step(model, cache.capacity), "decoding step: rotary frequencies depend on the length of {} tokens",
          cache.capacity);
  options_.contexts.clear();
  contexts_ = read_contexts_of(options.contexts);
  check_contexts(contexts_, B);
  table_batch_ = table_batch(model, B);
  joined_ = products_join(model, B, options.chain);
  rotary_ = stack.rotary.table(stack.config, cache.capacity, model.any_weight());
  const at::TensorOptions integers = at::TensorOptions().device(model.device()).dtype(at::kLong);
  positions_.assign(B, 0);
  ids_B_ = at::zeros({B}, integers);
  positions_B_ = at::zeros({B}, integers);
  logits_BV_ = at::empty({B, stack.config.vocab_size}, model.any_weight().options());
  prepare();
}

// A product costs a chain some 5 us until the next one has its result, in which the weights of what follows come: large
// ones hide that, small ones do not. Nor was a step with a context faster where seven query heads share a key-value
// head; with four it was (docs/kernels/gemv_chain.md has what was measured). Quantised weights and more sequences are
// not made for chains.
bool DecodeStep::chains() const {
  const bool few = static_cast<int64_t>(positions_.size()) <= kGemvRows;
  if (!joined_ || !few || options_.chain == StepChain::never) return false;
  if (options_.chain == StepChain::always) return true;
  const StackConfig& config = model_.config.decoder;
  const bool widely_shared = config.num_heads > 4 * config.num_kv_heads;
  const bool quantised = model_.decoder.stack.layers.at(0).self_attention.qkv.quantised != nullptr;
  return !quantised && large_layers(config) && !(widely_shared && reads_contexts());
}

// The form, the table and the graph for the contexts that are there.
void DecodeStep::prepare() {
  work_.reset();
  table_.reset();
  const std::vector<TableRange> ranges = table_ranges();
  if (table_serves(ranges)) {
    form_ = CrossAttentionForm::absorbed;
    table_ = std::make_unique<ContextTable>(table_batch_, ranges);
  } else {
    form_ = chosen_form();
  }
  chain_ = std::make_unique<GemvChain>(chains(), /*tiles=*/joined_);
  // The scratch memory of materialised keys and values, a block of them, would stay with a graph.
  const bool graph = options_.graph && form_ != CrossAttentionForm::materialised;
  work_.emplace(model_.device(), graph, [this] { compute(); });
}

void DecodeStep::set_contexts(const std::vector<StepContext>& contexts) {
  const at::NoGradGuard no_gradients;
  std::vector<StepContext> read = read_contexts_of(contexts);
  check_contexts(read, static_cast<int64_t>(positions_.size()));
  contexts_ = std::move(read);
  const std::vector<TableRange> ranges = table_ranges();
  if (table_ && table_->takes(ranges) && context_table_pays(table_batch_, ranges))
    table_->set(ranges);
  else
    prepare();
}

std::vector<TableRange> DecodeStep::table_ranges() const {
  std::vector<TableRange> ranges;
  for (const StepContext& context : contexts_) {
    const Latents& latents = context.latents;
    ranges.push_back({{latents.states_BSE, latents.mask_BS, latents.scales_BS}, context.first, context.count});
  }
  return ranges;
}

bool DecodeStep::table_serves(const std::vector<TableRange>& ranges) const {
  if (alike(contexts_, static_cast<int64_t>(positions_.size())) && !options_.contexts_change) return false;
  if (!context_table_applies(table_batch_, ranges) || !context_table_pays(table_batch_, ranges)) return false;
  const bool automatic = options_.form == CrossAttentionForm::automatic;
  return options_.form == CrossAttentionForm::absorbed ||
         (automatic && (options_.contexts_change || chosen_form() == CrossAttentionForm::absorbed));
}

CrossAttentionForm DecodeStep::chosen_form() const {
  if (options_.form != CrossAttentionForm::automatic || contexts_.empty()) return options_.form;
  const DeviceRates rates = device_rates(model_.device(), model_.dtype());
  std::vector<CrossAttentionForm> forms;
  for (const StepContext& context : contexts_) {
    const int64_t sharing = context.latents.states_BSE.size(0) == 1 ? context.count : 1;
    CrossAttentionWork work = cross_attention_work(model_.config.decoder, context.latents, sharing);
    work.kept = context.latents.cache != nullptr;
    forms.push_back(choose_cross_attention(work, rates).form);
  }
  const bool same = std::all_of(forms.begin(), forms.end(), [&](CrossAttentionForm form) { return form == forms[0]; });
  return same ? forms[0] : CrossAttentionForm::absorbed;
}

void DecodeStep::place(std::span<const int64_t> ids, std::span<const int64_t> positions) {
  const size_t B = positions_.size();
  require(ids.size() == B && positions.size() == B, "decoding step: {} tokens at {} positions for a batch of {}",
          ids.size(), positions.size(), B);
  for (size_t b = 0; b < B; ++b) {
    require(ids[b] >= 0 && ids[b] < model_.config.decoder.vocab_size,
            "decoding step: token {} is outside the model's vocabulary of {}", ids[b],
            model_.config.decoder.vocab_size);
    require(positions[b] >= 0 && positions[b] < cache_.capacity,
            "decoding step: position {} is not in a key-value cache of {}", positions[b], cache_.capacity);
  }
  const auto put = [](at::Tensor& to, std::span<const int64_t> values) {
    if (values.size() == 1) return static_cast<void>(to.fill_(values[0]));  // without a copy from the host
    to.copy_(at::tensor(at::ArrayRef<int64_t>(values.data(), values.size()), at::kLong));
  };
  put(ids_B_, ids);
  // Mostly they are there already: run() advances them.
  const bool there = !run_failed_ && std::equal(positions.begin(), positions.end(), positions_.begin());
  if (!there) put(positions_B_, positions);
  positions_.assign(positions.begin(), positions.end());
  run_failed_ = false;
}

const at::Tensor& DecodeStep::run() {
  const at::NoGradGuard no_gradients;
  require(!run_failed_, "decoding step: the run before failed: place the sequences again");
  for (const int64_t position : positions_) {
    require(position < cache_.capacity,
            "decoding step: one more token after {} does not fit in a key-value cache of {}", position,
            cache_.capacity);
  }
  run_failed_ = true;
  {
    std::optional<ChainTurn> turn;
    if (chain_->joins()) turn.emplace(model_.device());
    work_->run();
  }
  run_failed_ = false;
  for (int64_t& position : positions_) ++position;
  return logits_BV_;
}

StepAttention DecodeStep::attention_input(const SelfAttention& weights, size_t layer) const {
  const LayerCache& cache = cache_.layers[layer];
  return {rotary_,
          positions_B_,
          cache.k_BSGK,
          cache.v_BSGK,
          weights.q_norm,
          weights.k_norm,
          model_.config.decoder.rms_norm_eps};
}

at::Tensor DecodeStep::attend(const Layer& layer, size_t index, const at::Tensor& normed_BD) const {
  const SelfAttention& weights = layer.self_attention;
  return weights.o(step_attention(queries_keys_values(weights, normed_BD), attention_input(weights, index)));
}

BatchContexts DecodeStep::context_rows(size_t layer) const {
  BatchContexts read{{}, table_.get(), form_};
  for (const StepContext& context : contexts_) {
    const ContextCache* cache = context.latents.cache.get();
    read.rows.push_back({&context.latents, cache ? &cache->layers.at(layer) : nullptr, context.first, context.count});
  }
  return read;
}

// Each addition to the residual stream comes with the norm that follows it, the next layer's included.
at::Tensor DecodeStep::hidden_states() const {
  const Stack& stack = model_.decoder.stack;
  const double eps = stack.config.rms_norm_eps;
  const at::Tensor embedded_BD = at::embedding(stack.embedding, ids_B_);
  NormedSum h{embedded_BD, rms_norm(embedded_BD, stack.layers.at(0).input_norm, eps)};
  for (size_t i = 0; i < stack.layers.size(); ++i) {
    const Layer& layer = stack.layers[i];
    const bool reads = layer.cross_attention && reads_contexts();
    h = add_rms_norm(h.sum, attend(layer, i, h.normed), reads ? layer.cross_attention->norm : layer.post_attention_norm,
                     eps);
    if (reads) {
      const at::Tensor read_BTD =
          cross_attention(*layer.cross_attention, stack.config, h.normed.unsqueeze(1), context_rows(i));
      h = add_rms_norm(h.sum, read_BTD.squeeze(1), layer.post_attention_norm, eps);
    }
    const bool last = i + 1 == stack.layers.size();
    h = add_rms_norm(h.sum, step_feed_forward(layer.feed_forward, h.normed),
                     last ? stack.norm : stack.layers[i + 1].input_norm, eps);
  }
  return h.normed;
}

// Logits where products take in the norm before them, and SwiGLU or the addition to the residual stream after them.
at::Tensor DecodeStep::joined_logits() const {
  const Stack& stack = model_.decoder.stack;
  GemvChain& chain = *chain_;
  chain.discard();  // what an error in the run before may have left
  const StackConfig& config = stack.config;
  const double eps = config.rms_norm_eps;
  const auto product = [&](const Linear& linear, const at::Tensor& x, const GemvOptions& options) {
    return linear.quantised ? chain.product(x, *linear.quantised, options) : chain.product(x, linear.weight, options);
  };
  const auto normed = [&](const Linear& linear, const at::Tensor& h, const at::Tensor& norm, bool gated = false) {
    return product(linear, h, {.norm = norm, .eps = eps, .bias = linear.bias, .gated = gated});
  };
  const auto added = [&](const Linear& linear, const at::Tensor& x, const at::Tensor& h) {
    return product(linear, x, {.bias = linear.bias, .residual = h});
  };
  at::Tensor h = at::embedding(stack.embedding, ids_B_);
  for (size_t i = 0; i < stack.layers.size(); ++i) {
    const Layer& layer = stack.layers[i];
    const SelfAttention& self = layer.self_attention;
    const at::Tensor qkv = normed(self.qkv, h, layer.input_norm);
    chain.run();
    h = added(self.o, step_attention(qkv, attention_input(self, i)), h);
    if (layer.cross_attention && reads_contexts()) {
      const CrossAttention& cross = *layer.cross_attention;
      const at::Tensor q = normed(cross.q, h, cross.norm);
      const at::Tensor read =
          read_contexts(cross, config, q.view({-1, 1, config.num_heads, config.head_dim}), context_rows(i), chain);
      h = added(cross.o, read.reshape(q.sizes()), h);
    }
    const FeedForward& mlp = layer.feed_forward;
    h = added(mlp.down, normed(mlp.gate_up, h, layer.post_attention_norm, /*gated=*/true), h);
  }
  const Decoder& decoder = model_.decoder;
  const GemvOptions last{.norm = stack.norm, .eps = eps};
  const at::Tensor logits = decoder.quantised_head ? chain.product(h, *decoder.quantised_head, last)
                                                   : chain.product(h, decoder.lm_head, last);
  chain.run();
  return logits;
}

void DecodeStep::compute() {
  const at::NoGradGuard no_gradients;
  logits_BV_.copy_(joined_ ? joined_logits() : logits(model_, hidden_states()));
  if (options_.sampler)
    options_.sampler->sample(logits_BV_, ids_B_);
  else
    at::argmax_out(ids_B_, logits_BV_, -1);
  positions_B_.add_(1);
}

}  // namespace cepe
