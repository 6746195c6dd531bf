#include "model/cross_attention.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/error.h"
#include "ops/context/context_blocks.h"
#include "ops/gemv/gemv.h"
#include "ops/gemv/shared_input.h"
#include "ops/latent/latent_attention.h"
#include "ops/latent/latent_int8.h"
#include "ops/ops.h"
#include "ops/pieces.h"
#include "ops/step/step_executor.h"

namespace cepe {
namespace {

at::ScalarType wide_type(const at::Tensor& x) { return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat; }

// Real states of each context, (C) int64, on the latents' device where there is a mask.
at::Tensor real_states(const Latents& latents) {
  if (latents.mask_BS.defined()) return latents.mask_BS.sum(1);
  return at::full({latents.states_BSE.size(0)}, latents.tokens(), at::kLong);
}

// position_bucket() of states first .. first + n, (1 or C, n) int64.
at::Tensor position_buckets(const CrossVariants& variants, const Latents& latents, int64_t first, int64_t n) {
  const at::TensorOptions integers = latents.states_BSE.options().dtype(at::kLong).requires_grad(false);
  at::Tensor after;  // real states behind
  if (latents.mask_BS.defined()) {
    after = (latents.mask_BS.sum(1, /*keepdim=*/true) - latents.mask_BS.cumsum(1)).narrow(1, first, n);
  } else {
    after = (latents.tokens() - 1 - at::arange(first, first + n, integers)).unsqueeze(0);
  }
  const int64_t P = variants.position_buckets, exact = P / 2;
  const at::Tensor steps = at::floor_divide(after, variants.position_states);
  const double growth = std::log(static_cast<double>(kMostPositionSteps) / static_cast<double>(exact));
  const at::Tensor grown = steps.to(at::kDouble).div(static_cast<double>(exact)).clamp_min(1).log().div(growth);
  const at::Tensor far = grown.mul(static_cast<double>(P - exact)).add(kRoundingSlack).to(at::kLong).add(exact);
  return at::where(steps.lt(exact), steps, far.clamp_max(P - 1));
}

// What is added to keys of these states, (1 or C, n, G, K). A product with one-hot rows: its gradient is a product,
// too, where that of an index would add thousands of rows to few.
at::Tensor key_bias(const CrossAttention& weights, const StackConfig& config, const at::Tensor& buckets_Cn) {
  const at::Tensor& keys = weights.position_keys;
  const at::Tensor numbers = at::arange(keys.size(0), buckets_Cn.options());
  const at::Tensor one_hot = buckets_Cn.unsqueeze(-1).eq(numbers).to(keys.scalar_type());
  return at::matmul(one_hot, keys).unflatten(-1, {config.num_kv_heads, config.head_dim});
}

// k (C, n, G, K) of states first .. first + n
at::Tensor with_positions(const CrossAttention& weights, const StackConfig& config, const at::Tensor& k_CnGK,
                          const Latents& latents, int64_t first) {
  if (config.cross.position_buckets == 0) return k_CnGK;
  const at::Tensor buckets = position_buckets(config.cross, latents, first, k_CnGK.size(1));
  return k_CnGK + key_bias(weights, config, buckets);
}

// (C, 1, G, K); its score is divided by sqrt(K) as any other.
at::Tensor null_key(const CrossAttention& weights, const StackConfig& config, int64_t contexts) {
  const int64_t G = config.num_kv_heads, K = config.head_dim;
  return weights.null_key.mul(std::sqrt(static_cast<double>(K))).view({1, 1, G, K}).expand({contexts, 1, G, K});
}

at::Tensor scaled_queries(const StackConfig& config, const at::Tensor& q_BTHK, const Latents& latents) {
  const CrossVariants& variants = config.cross;
  if (variants.query_log_scale == 0) return q_BTHK;
  if (!latents.mask_BS.defined()) return q_BTHK * query_factor(variants, latents.tokens());
  return (q_BTHK * query_factors(variants, latents).to(wide_type(q_BTHK)).view({-1, 1, 1, 1})).to(q_BTHK.scalar_type());
}

void check_form(const StackConfig& config, CrossAttentionForm form) {
  require(form == CrossAttentionForm::materialised || !config.cross.only_materialised(),
          "cross-attention with a null key or positions of chunks is computed in its materialised form alone, the {} "
          "form is asked for",
          cross_attention_form_name(form));
}

at::Tensor materialised(const CrossAttention& weights, const StackConfig& config, const at::Tensor& q_BTHK,
                        const Latents& latents) {
  const int64_t B = q_BTHK.size(0), S = latents.states_BSE.size(1), G = config.num_kv_heads, K = config.head_dim;
  SharedInput states(dense_states(latents, 0, S, q_BTHK.scalar_type()));
  const at::Tensor keys = states.product(weights.k, weights.k.bias).view({-1, S, G, K});
  at::Tensor k = with_positions(weights, config, keys, latents, 0).expand({B, S, G, K});
  at::Tensor v = states.product(weights.v, weights.v.bias).view({-1, S, G, K}).expand({B, S, G, K});
  AttentionMask mask;
  if (latents.mask_BS.defined()) mask.keys_BS = latents.mask_BS.expand({B, S});
  if (config.cross.null_key) {
    k = at::cat({k, null_key(weights, config, B)}, 1);
    v = at::cat({v, at::zeros({B, 1, G, K}, v.options())}, 1);
    // With a mask in any case: kernels for whole blocks of keys do not meet one key more, forwards or backwards.
    const at::Tensor one = at::ones({B, 1}, q_BTHK.options().dtype(at::kBool).requires_grad(false));
    mask.keys_BS = at::cat({mask.keys_BS.defined() ? mask.keys_BS : one.expand({B, S}), one}, 1);
  }
  return attention(q_BTHK, k, v, mask);
}

// Of a key or a value.
int64_t element_bytes(const Latents& latents) {
  if (!latents.scales_BS.defined()) return static_cast<int64_t>(latents.states_BSE.element_size());
  return latents.states_BSE.is_cuda() ? 2 : 4;
}

// Tokens whose keys and values of one layer take a bounded amount of memory: on a CPU 64 MiB, on a GPU 512 MiB, which
// is 2 % of a merge's work there. Whole blocks of kept keys.
int64_t block_tokens(const StackConfig& config, const Latents& latents) {
  constexpr int64_t kWhole = ContextKeysValues::kBlock;
  const at::Tensor& states = latents.states_BSE;
  const int64_t scratch = int64_t{1} << (states.is_cuda() ? 29 : 26);
  const int64_t numbers = states.size(0) * 2 * config.num_kv_heads * config.head_dim;
  const int64_t token = numbers * element_bytes(latents);
  return std::max(kWhole, scratch / token / kWhole * kWhole);
}

at::Tensor materialised_in_blocks(const CrossAttention& weights, const StackConfig& config, const at::Tensor& q_BTHK,
                                  const Latents& latents, int64_t block) {
  const int64_t C = latents.states_BSE.size(0), S = latents.tokens(), G = config.num_kv_heads, K = config.head_dim;
  const at::Tensor q_CGNK = fold_queries(q_BTHK, C, G);
  AttentionMerge merge;
  for (int64_t first = 0; first < S; first += block) {
    const int64_t n = std::min(block, S - first);
    SharedInput states(dense_states(latents, first, n, q_BTHK.scalar_type()));
    const auto heads = [&](const Linear& linear) { return states.product(linear, linear.bias).view({C, n, G, K}); };
    const at::Tensor k = with_positions(weights, config, heads(weights.k), latents, first);
    const at::Tensor real = latents.mask_BS.defined() ? latents.mask_BS.narrow(1, first, n) : at::Tensor();
    merge.add(partial_attention(q_CGNK, k.transpose(1, 2), heads(weights.v).transpose(1, 2), real));
  }
  if (config.cross.null_key) {
    const at::Tensor key = weights.null_key.to(wide_type(q_CGNK)).view({1, G, 1, K});
    merge.add({at::zeros_like(q_CGNK), (q_CGNK * key).sum(-1)});  // one key of value zero
  }
  return unfold_queries(merge.result(q_BTHK.scalar_type()), q_BTHK.sizes());
}

// inputs_ready: see LatentStates.
at::Tensor read_latents(const at::Tensor& query_BNE, const Latents& latents, double scale, bool inputs_ready) {
  return latent_attention(query_BNE, {latents.states_BSE, latents.mask_BS, latents.scales_BS, inputs_ready}, scale);
}

// Each range of the batch on its own context, which was encoded before this step: in one pass where there is a table,
// else one after another.
at::Tensor read_each(const at::Tensor& query_BNE, const BatchContexts& contexts, double scale) {
  if (contexts.table) return latent_attention(query_BNE, *contexts.table, scale);
  const std::span<const StepContext> rows = contexts.rows;
  constexpr bool kInputsReady = true;
  if (rows.size() == 1 && rows[0].count == query_BNE.size(0)) {
    return read_latents(query_BNE, rows[0].latents, scale, kInputsReady);
  }
  const at::Tensor out = at::zeros_like(query_BNE);
  for (const StepContext& range : rows) {
    out.narrow(0, range.first, range.count)
        .copy_(read_latents(query_BNE.narrow(0, range.first, range.count), range.latents, scale, kInputsReady));
  }
  return out;
}

// What runs the absorbed form's parts.
struct AbsorbedBy {
  // Attention on the states themselves, (B, N, E) -> (B, N, E), its scale being 1 / sqrt(K).
  std::function<at::Tensor(const at::Tensor& query_BNE, double scale)> read;
  // batched_gemv() of ops/gemv/gemv.h.
  std::function<at::Tensor(const at::Tensor& x_BHI, const at::Tensor& matrices, bool transposed)> head_products;
};

// The queries in the encoder's space, (B, T H, E), rows in the order of tokens and their heads.
at::Tensor moved_queries(const CrossAttention& weights, const StackConfig& config, const at::Tensor& q_BTHK) {
  const int64_t B = q_BTHK.size(0), T = q_BTHK.size(1), G = config.num_kv_heads, R = config.num_heads / G;
  const int64_t K = config.head_dim, E = weights.k.weight.size(1);
  // Queries of the heads that share a key-value head stand together: (G, B*T*R, K).
  const at::Tensor q_GNK = q_BTHK.reshape({B, T, G, R, K}).permute({2, 0, 1, 3, 4}).reshape({G, B * T * R, K});
  const at::Tensor moved_GNE = at::bmm(q_GNK, weights.k.weight.view({G, K, E}));
  return moved_GNE.view({G, B, T, R, E}).permute({1, 2, 0, 3, 4}).reshape({B, T * config.num_heads, E});
}

void add_mass(AttentionMass& mass, const CrossAttention& weights, const StackConfig& config, const at::Tensor& q_BTHK,
              const Latents& latents) {
  const at::NoGradGuard no_gradients;
  const int64_t T = q_BTHK.size(1), count = mass.last > 0 ? std::min(mass.last, T) : T;
  require(!weights.k.bias.defined(), "attention mass: keys with biases are not supported");
  require(!config.cross.only_materialised(),
          "attention mass: cross-attention with a null key or positions of chunks is not supported");
  const at::Tensor query_BNE = moved_queries(weights, config, q_BTHK.narrow(1, T - count, count));
  const double scale = 1.0 / std::sqrt(static_cast<double>(config.head_dim));
  const at::Tensor mass_BNM =
      attention_mass(query_BNE, {latents.states_BSE, latents.mask_BS, latents.scales_BS}, mass.chunks, scale);
  const at::Tensor sum_BM = mass_BNM.sum(1, /*keepdim=*/false, at::kDouble);
  mass.sum_BM = mass.sum_BM.defined() ? mass.sum_BM.add_(sum_BM) : sum_BM;
  mass.rows += query_BNE.size(1);
}

at::Tensor absorbed(const CrossAttention& weights, const StackConfig& config, const at::Tensor& q_BTHK,
                    const AbsorbedBy& by) {
  const int64_t B = q_BTHK.size(0), T = q_BTHK.size(1), H = config.num_heads, G = config.num_kv_heads;
  const int64_t K = config.head_dim, R = H / G, E = weights.k.weight.size(1);
  const double scale = 1.0 / std::sqrt(static_cast<double>(K));
  require(!weights.k.bias.defined() && !weights.v.bias.defined(),
          "absorbed cross-attention: keys and values with biases are not supported");
  const at::Tensor k_GKE = weights.k.weight.view({G, K, E}), v_GKE = weights.v.weight.view({G, K, E});
  if (T == 1 && q_BTHK.is_cuda() && !c10::GradMode::is_enabled()) {
    const at::Tensor moved_BHE = by.head_products(q_BTHK.view({B, H, K}), k_GKE, /*transposed=*/true);
    return by.head_products(by.read(moved_BHE, scale), v_GKE, /*transposed=*/false).view({B, T, H, K});
  }
  const at::Tensor read_BNE = by.read(moved_queries(weights, config, q_BTHK), scale);
  const at::Tensor read_GNE = read_BNE.view({B, T, G, R, E}).permute({2, 0, 1, 3, 4}).reshape({G, B * T * R, E});
  const at::Tensor out_GNK = at::bmm(read_GNE, v_GKE.transpose(1, 2));
  return out_GNK.view({G, B, T, R, K}).permute({1, 2, 0, 3, 4}).reshape({B, T, H, K});
}

bool wants_gradient(const CrossAttention& weights, const at::Tensor& q, const Latents& latents) {
  return c10::GradMode::is_enabled() && (q.requires_grad() || latents.states_BSE.requires_grad() ||
                                         weights.k.weight.requires_grad() || weights.v.weight.requires_grad());
}

CrossAttentionForm chosen(const CrossAttention& weights, const StackConfig& decoder, const Latents& latents,
                          int64_t rows, bool kept) {
  CrossAttentionWork work = cross_attention_work(decoder, latents, rows);
  work.kept = kept;
  return choose_cross_attention(work, device_rates(latents.states_BSE.device(), weights.k.weight.scalar_type())).form;
}

}  // namespace

at::Tensor AttentionMass::mean() const {
  if (!sum_BM.defined()) return at::zeros({1, chunks.count()}, at::kDouble);
  return sum_BM.to(at::kCPU) / rows;
}

int64_t ContextCache::bytes() const {
  int64_t bytes = 0;
  for (const ContextKeysValues& layer : layers) bytes += layer.k.defined() ? layer.bytes() : 0;
  return bytes;
}

double ContextCache::number_bytes() const {
  for (const ContextKeysValues& layer : layers) {
    if (layer.k.defined()) return kept_bytes(layer.k.scalar_type(), layer.v.size(3));
  }
  return 0;
}

double ContextCache::read_share() const {
  int64_t read = 0, all = 0;
  for (const ContextKeysValues& layer : layers) {
    if (!layer.k.defined() || !layer.blocked()) continue;
    const int64_t blocks = layer.k.size(0) * layer.k.size(1) * layer.k.size(2);
    read += layer.chosen.defined() ? layer.chosen.numel() : blocks, all += blocks;
  }
  return all == 0 ? 1 : static_cast<double>(read) / static_cast<double>(all);
}

std::shared_ptr<const ContextCache> choose_part(const ContextCache& whole, std::span<const at::Tensor> queries,
                                                const at::Tensor& mask_BS, double share) {
  const at::NoGradGuard no_gradients;
  auto part = std::make_shared<ContextCache>();
  size_t read = 0;  // layers
  for (const ContextKeysValues& layer : whole.layers) {
    const bool reads = layer.k.defined();
    require(!reads || read < queries.size(), "sparse reading: queries of {} layers, more have kept keys",
            queries.size());
    part->layers.push_back(reads ? choose_blocks(queries[read++], layer, mask_BS, share) : layer);
  }
  return part;
}

bool reads_part(const Latents& latents) {
  if (!latents.cache) return false;
  const std::vector<ContextKeysValues>& layers = latents.cache->layers;
  return std::any_of(layers.begin(), layers.end(), [](const auto& layer) { return layer.chosen.defined(); });
}

Latents quantize(const Latents& latents) {
  const at::NoGradGuard no_gradients;
  if (latents.tokens() == 0 || latents.scales_BS.defined()) return latents;
  const Int8States states = quantize_states(latents.states_BSE);
  return {.states_BSE = states.values, .mask_BS = latents.mask_BS, .scales_BS = states.scales};
}

at::Tensor dense_states(const Latents& latents, int64_t first, int64_t count, at::ScalarType dtype) {
  // A slice's gradient would be a copy of the whole.
  const bool all = first == 0 && count == latents.tokens();
  const at::Tensor states = all ? latents.states_BSE : latents.states_BSE.narrow(1, first, count);
  return latents.scales_BS.defined() ? dequantize_states({states, latents.scales_BS.narrow(1, first, count)}, dtype)
                                     : states;
}

at::Tensor query_factors(const CrossVariants& variants, const Latents& latents) {
  const at::Tensor over = real_states(latents).to(at::kDouble).div(variants.query_log_tokens).clamp_min(1);
  return over.log().mul(variants.query_log_scale).add(1);
}

std::shared_ptr<const ContextCache> cache_context(const Stack& decoder, const Latents& latents,
                                                  std::optional<at::ScalarType> kept) {
  const at::NoGradGuard no_gradients;
  check_form(decoder.config, CrossAttentionForm::cached);
  const int64_t C = latents.states_BSE.size(0), S = latents.tokens();
  const int64_t G = decoder.config.num_kv_heads, K = decoder.config.head_dim;
  // On a CPU a block is one thread's: its keys and values are still in the cache when they are written to their places.
  constexpr int64_t kBlockOfThread = 16 * ContextKeysValues::kBlock;
  const bool cpu = latents.states_BSE.is_cpu();
  const int64_t share = (S / at::get_num_threads() / ContextKeysValues::kBlock + 1) * ContextKeysValues::kBlock;
  const int64_t block = cpu ? std::min(share, kBlockOfThread) : block_tokens(decoder.config, latents);
  auto cache = std::make_shared<ContextCache>();
  for (const Layer& layer : decoder.layers) {
    ContextKeysValues& made = cache->layers.emplace_back();
    if (!layer.cross_attention) continue;
    const at::Tensor& weight = layer.cross_attention->k.weight;
    made = make_context_keys_values({C, G, S, K}, weight.options().dtype(kept.value_or(weight.scalar_type())));
    const auto project = [&](int64_t i) {
      const int64_t first = i * block, n = std::min(block, S - first);
      SharedInput states(dense_states(latents, first, n, weight.scalar_type()));
      const auto heads = [&](const Linear& linear) { return states.product(linear, linear.bias).view({C, n, G, K}); };
      write_keys_values(made, first, heads(layer.cross_attention->k), heads(layer.cross_attention->v));
    };
    const int64_t blocks = (S + block - 1) / block;
    if (cpu) in_pieces(blocks, project);
    for (int64_t i = 0; !cpu && i < blocks; ++i) project(i);
  }
  return cache;
}

CrossAttentionWork cross_attention_work(const StackConfig& decoder, const Latents& latents, int64_t query_rows) {
  CrossAttentionWork work;
  work.latent_width = latents.states_BSE.size(2);
  work.heads = decoder.num_heads;
  work.kv_heads = decoder.num_kv_heads;
  work.head_dim = decoder.head_dim;
  work.contexts = latents.states_BSE.size(0);
  work.context_tokens = latents.tokens();
  work.element_bytes = element_bytes(latents);
  work.latent_bytes = static_cast<int64_t>(latents.states_BSE.element_size());
  work.query_rows = query_rows;
  work.only_materialised = decoder.cross.only_materialised();
  if (latents.cache) work.kept_bytes = latents.cache->number_bytes();
  return work;
}

CrossAttentionForm choose_cross_attention_form(const StackConfig& decoder, int64_t encoder_width, int64_t query_rows) {
  CrossAttentionWork work;
  work.latent_width = encoder_width;
  work.heads = decoder.num_heads;
  work.kv_heads = decoder.num_kv_heads;
  work.head_dim = decoder.head_dim;
  work.context_tokens = int64_t{1} << 30;  // a long context: moving the queries counts for nothing
  work.query_rows = query_rows;
  work.only_materialised = decoder.cross.only_materialised();
  return choose_cross_attention(work, equal_rates()).form;
}

at::Tensor read_context(const CrossAttention& weights, const StackConfig& decoder, const at::Tensor& asked_BTHK,
                        const Latents& latents, const CrossAttentionOptions& options) {
  const int64_t B = asked_BTHK.size(0), T = asked_BTHK.size(1), S = latents.tokens();
  const int64_t contexts = latents.states_BSE.size(0), rows = T * (contexts == 1 ? B : 1);
  require(contexts == B || contexts == 1, "cross-attention: {} contexts for a batch of {}", contexts, B);
  const at::Tensor q_BTHK = scaled_queries(decoder, asked_BTHK, latents);
  if (options.mass) add_mass(*options.mass, weights, decoder, q_BTHK, latents);
  if (options.queries) options.queries->push_back(q_BTHK.narrow(1, T - 1, 1).clone());
  const bool trains = wants_gradient(weights, q_BTHK, latents);
  CrossAttentionForm form = options.form;
  if (form == CrossAttentionForm::automatic && options.kept && options.kept->chosen.defined()) {
    form = CrossAttentionForm::cached;
  } else if (form == CrossAttentionForm::automatic) {
    form = trains ? choose_cross_attention_form(decoder, latents.states_BSE.size(2), rows)
                  : chosen(weights, decoder, latents, rows, options.kept != nullptr);
  }
  check_form(decoder, form);
  if (form == CrossAttentionForm::cached) {
    require(options.kept != nullptr, "cached cross-attention: keys and values of this context are not kept");
    require(options.kept->tokens == S, "cached cross-attention: keys and values of {} tokens for a context of {}",
            options.kept->tokens, S);
    require(!trains, "cached cross-attention: no gradients go through kept keys and values");
    return context_attention(q_BTHK, *options.kept, latents.mask_BS);
  }
  if (form == CrossAttentionForm::absorbed) {
    const auto read = [&](const at::Tensor& query, double scale) {
      return read_latents(query, latents, scale, /*inputs_ready=*/false);
    };
    const auto products = [](const at::Tensor& x, const at::Tensor& matrices, bool transposed) {
      return batched_gemv(x, matrices, transposed);
    };
    return absorbed(weights, decoder, q_BTHK, {read, products});
  }
  const int64_t block = options.block_tokens > 0 ? options.block_tokens : block_tokens(decoder, latents);
  return trains || S <= block ? materialised(weights, decoder, q_BTHK, latents)
                              : materialised_in_blocks(weights, decoder, q_BTHK, latents, block);
}

at::Tensor read_contexts(const CrossAttention& weights, const StackConfig& decoder, const at::Tensor& asked_BTHK,
                         const BatchContexts& contexts, StepExecutor& executor) {
  const CrossAttentionForm form = contexts.form;
  require(form != CrossAttentionForm::automatic, "cross-attention: contexts of different lengths want a form");
  check_form(decoder, form);
  at::Tensor q_BTHK = asked_BTHK;
  if (contexts.query_factors_B.defined()) {
    executor.launch();
    q_BTHK = (asked_BTHK * contexts.query_factors_B).to(asked_BTHK.scalar_type());
  }
  if (contexts.queries) {
    executor.launch();
    contexts.queries->push_back(q_BTHK.clone());
  }
  if (form == CrossAttentionForm::absorbed) {
    if (!q_BTHK.is_cuda()) executor.launch();  // what moves the queries is then no product of the executor
    const auto read = [&](const at::Tensor& query, double scale) {
      executor.launch();
      return read_each(query, contexts, scale);
    };
    const auto products = [&](const at::Tensor& x, const at::Tensor& matrices, bool transposed) {
      return executor.batched_gemv(x, matrices, transposed);
    };
    return absorbed(weights, decoder, q_BTHK, {read, products});
  }
  executor.launch();
  const at::Tensor out = at::zeros_like(q_BTHK);
  for (const StepContext& range : contexts.rows) {
    const at::Tensor asking = q_BTHK.narrow(0, range.first, range.count);
    const Latents& latents = range.latents;
    at::Tensor read;
    if (form == CrossAttentionForm::cached) {
      require(latents.cache != nullptr, "cached cross-attention: keys and values of a context are not kept");
      read = context_attention(asking, latents.cache->layers.at(contexts.layer), latents.mask_BS);
    } else {
      read = materialised_in_blocks(weights, decoder, asking, latents, block_tokens(decoder, latents));
    }
    out.narrow(0, range.first, range.count).copy_(read);
  }
  return out;
}

}  // namespace cepe
