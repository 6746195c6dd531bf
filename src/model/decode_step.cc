#include "model/decode_step.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "base/error.h"
#include "model/layer/layer_walk.h"
#include "model/layer/step_layers.h"
#include "ops/cuda/device.h"
#include "ops/dispatch.h"
#include "ops/gemv/gemv.h"
#include "ops/step/step_executor.h"
#include "ops/step/step_ops.h"

namespace cepe {
namespace {

dispatch::LayerShape layer_shape(const StackConfig& config) {
  return {config.hidden_size, config.num_heads, config.num_kv_heads, config.head_dim, config.intermediate_size};
}

// Whether the skinny GEMM may serve.
bool skinny_pays(const Cepe& model, StepChain chain) {
  return chain == StepChain::automatic ? dispatch::large_layer(layer_shape(model.config.decoder))
                                       : chain == StepChain::always;
}

// Whether every product of the decoder's layers is one of our kernels, which takes in what stands around it.
bool products_fuse(const Cepe& model, int64_t batch, bool skinny) {
  const auto fuses = [&](const Linear& linear, bool gated = false) {
    return gemv_is_fused(linear, {.type = model.dtype(), .rows = batch, .gated = gated, .semaphores = skinny});
  };
  const std::vector<Layer>& layers = model.decoder.stack.layers;
  return std::all_of(layers.begin(), layers.end(), [&](const Layer& layer) {
    const SelfAttention& self = layer.self_attention;
    const FeedForward& mlp = layer.feed_forward;
    return fuses(self.qkv) && fuses(self.o) && fuses(mlp.gate_up, /*gated=*/true) && fuses(mlp.down) &&
           (!layer.cross_attention || (fuses(layer.cross_attention->q) && fuses(layer.cross_attention->o)));
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
  return fused && (model.device().is_cuda() || products_fuse(model, 1, /*skinny=*/false));
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
  fused_ = products_fuse(model, B, skinny_pays(model, options.chain));
  rotary_ = stack.rotary.table(stack.config, cache.capacity, model.any_weight());
  const at::TensorOptions integers = at::TensorOptions().device(model.device()).dtype(at::kLong);
  positions_.assign(B, 0);
  ids_B_ = at::zeros({B}, integers);
  positions_B_ = at::zeros({B}, integers);
  logits_BV_ = at::empty({B, stack.config.vocab_size}, model.any_weight().options());
  if (stack.config.cross.query_log_scale > 0) {
    query_factors_B_ = at::ones({B, 1, 1, 1}, integers.dtype(model.dtype() == at::kDouble ? at::kDouble : at::kFloat));
  }
  prepare();
}

DecodeStep::~DecodeStep() = default;

bool DecodeStep::chains() const {
  const auto sequences = static_cast<int64_t>(positions_.size());
  if (!fused_ || options_.chain == StepChain::never) return false;
  if (options_.chain == StepChain::always) return sequences <= dispatch::kGemvRows;
  return dispatch::chains_pay({.layer = layer_shape(model_.config.decoder),
                               .sequences = sequences,
                               .quantised = !model_.decoder.stack.layers.at(0).self_attention.qkv.dense(),
                               .reads_context = reads_contexts(),
                               .exclusive_device = options_.exclusive_device || device_is_exclusive(model_.device()),
                               .device_runs_it = hopper_refusal(model_.device()).empty()});
}

// The form, the table and the graph for the contexts that are there.
void DecodeStep::prepare() {
  executor_.reset();
  table_.reset();
  write_query_factors();
  if (wants_table()) table_ = make_context_table(table_batch_, table_ranges());
  form_ = table_ ? CrossAttentionForm::absorbed : chosen_form();
  // The scratch memory of materialised keys and values, a block of them, would stay with a graph.
  const bool graph = options_.graph && form_ != CrossAttentionForm::materialised;
  const StepExecutorOptions how{.chains = chains(), .skinny = fused_, .graph = graph};
  executor_ = std::make_unique<StepExecutor>(model_.device(), how, [this] { compute(); });
}

void DecodeStep::set_contexts(const std::vector<StepContext>& contexts) {
  const at::NoGradGuard no_gradients;
  std::vector<StepContext> read = read_contexts_of(contexts);
  check_contexts(read, static_cast<int64_t>(positions_.size()));
  contexts_ = std::move(read);
  if (!table_ || !table_->replace(table_ranges())) return prepare();
  write_query_factors();
}

// In place: a recorded graph reads them there.
void DecodeStep::write_query_factors() {
  if (!query_factors_B_.defined()) return;
  query_factors_B_.fill_(1);
  for (const StepContext& context : contexts_) {
    const at::Tensor factors_C = query_factors(model_.config.decoder.cross, context.latents);
    query_factors_B_.narrow(0, context.first, context.count).copy_(factors_C.view({-1, 1, 1, 1}));
  }
}

std::vector<TableRange> DecodeStep::table_ranges() const {
  std::vector<TableRange> ranges;
  for (const StepContext& context : contexts_) {
    const Latents& latents = context.latents;
    ranges.push_back({{latents.states_BSE, latents.mask_BS, latents.scales_BS}, context.first, context.count});
  }
  return ranges;
}

// Whether contexts are to be read in one pass, where there is a table for them.
bool DecodeStep::wants_table() const {
  if (model_.config.decoder.cross.only_materialised()) return false;
  if (alike(contexts_, static_cast<int64_t>(positions_.size())) && !options_.contexts_change) return false;
  const bool automatic = options_.form == CrossAttentionForm::automatic;
  return options_.form == CrossAttentionForm::absorbed ||
         (automatic && (options_.contexts_change || chosen_form() == CrossAttentionForm::absorbed));
}

CrossAttentionForm DecodeStep::chosen_form() const {
  if (options_.form != CrossAttentionForm::automatic || contexts_.empty()) return options_.form;
  const auto kept = [](const StepContext& context) { return context.latents.cache != nullptr; };
  const auto part = [](const StepContext& context) { return reads_part(context.latents); };
  if (std::any_of(contexts_.begin(), contexts_.end(), part) && std::all_of(contexts_.begin(), contexts_.end(), kept))
    return CrossAttentionForm::cached;
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
  executor_->run();
  run_failed_ = false;
  for (int64_t& position : positions_) ++position;
  return logits_BV_;
}

namespace {

template <class Layers>
at::Tensor walk(const Decoder& decoder, Layers run) {
  walk_layers(decoder.stack, 0, decoder.stack.layers.size(), run);
  return run.product(Linear{decoder.head()}, run.norm(decoder.stack.norm));
}

}  // namespace

at::Tensor DecodeStep::logits_of_walk() {
  const Decoder& decoder = model_.decoder;
  const BatchContexts contexts{.rows = contexts_,
                               .table = table_.get(),
                               .form = form_,
                               .query_factors_B = query_factors_B_,
                               .queries = options_.context_queries};
  if (options_.context_queries) options_.context_queries->clear();
  const StepInput input{decoder.stack.config, cache_, rotary_, positions_B_, contexts, reads_contexts(), *executor_};
  const at::Tensor h = at::embedding(decoder.stack.embedding, ids_B_);
  const at::Tensor found =
      fused_ ? walk(decoder, FusedStepLayers(h, input)) : walk(decoder, SeparateStepLayers(h, input));
  executor_->launch();
  return found;
}

void DecodeStep::compute() {
  const at::NoGradGuard no_gradients;
  logits_BV_.copy_(logits_of_walk());
  if (options_.sampler)
    options_.sampler->sample(logits_BV_, ids_B_);
  else
    at::argmax_out(ids_B_, logits_BV_, -1);
  positions_B_.add_(1);
}

}  // namespace cepe
