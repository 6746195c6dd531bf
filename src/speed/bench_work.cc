// The operations and bytes of a benchmark's case, from the model's sizes alone.
#include <c10/core/ScalarType.h>

#include "context/encode_context.h"
#include "speed/bench.h"

namespace cepe {
namespace {

// Elements of a layer's weight matrices.
struct LayerSizes {
  explicit LayerSizes(const StackConfig& c)
      : query_output(2.0 * c.hidden_size * c.num_heads * c.head_dim),
        key_value(2.0 * c.hidden_size * c.num_kv_heads * c.head_dim),
        feed_forward(3.0 * c.hidden_size * c.intermediate_size) {}
  double all() const { return query_output + key_value + feed_forward; }
  double query_output, key_value, feed_forward;
};

// A pass of the decoder: `tokens` after `before` in the window, the hidden states of the last `wanted` are used.
struct Pass {
  int64_t tokens, before, wanted;
};

// What all passes of a repetition share.
struct Counted {
  const CepeConfig& config;
  const BenchCase& what;
  const BenchOptions& options;
  const WorkBasis& basis;
};

CrossAttentionForm form_for(const Counted& of, int64_t tokens) {
  const auto& [config, what, options, basis] = of;
  if (what.form != CrossAttentionForm::automatic || what.contexts() == 0) return what.form;
  const bool writes = what.test.kind == BenchTest::Kind::generate;
  const StackConfig& c = config.decoder;
  CrossAttentionWork work;
  work.latent_width = config.encoder->hidden_size;
  work.heads = c.num_heads, work.kv_heads = c.num_kv_heads, work.head_dim = c.head_dim;
  work.layers = config.num_cross_attn_layers;
  work.contexts = what.contexts(), work.context_tokens = what.test.context;
  work.element_bytes = static_cast<int64_t>(basis.element_bytes);
  work.latent_bytes = static_cast<int64_t>(basis.latent_bytes);
  work.query_rows = tokens * (what.contexts() == 1 ? what.batch : 1);
  work.step_rows = work.query_rows;
  work.steps = writes ? what.test.tokens - 1 : 0;
  work.memory_budget = writes ? options.context_cache_bytes : 0;
  return choose_cross_attention(work, basis.rates).form;
}

// One layer's cross-attention for `tokens` rows of each sequence.
double cross_operations(const Counted& of, CrossAttentionForm form, int64_t tokens) {
  const auto& [config, what, options, basis] = of;
  const StackConfig& c = config.decoder;
  const double D = c.hidden_size, H = c.num_heads, G = c.num_kv_heads, K = c.head_dim, E = config.encoder->hidden_size;
  const double S = what.test.context, rows = static_cast<double>(what.batch) * tokens;
  const double query_output = rows * 4 * D * H * K;
  if (form == CrossAttentionForm::absorbed) return query_output + rows * (4 * H * K * E + 4 * S * H * E);
  if (form == CrossAttentionForm::cached) return query_output + rows * 4 * S * H * K;
  return query_output + what.contexts() * S * 4 * E * G * K + rows * 4 * S * H * K;
}

// Bytes of what one layer's cross-attention reads: its weights, and the contexts in the form that they are kept in.
double cross_bytes(const Counted& of, CrossAttentionForm form, double query_output) {
  const auto& [config, what, options, basis] = of;
  const double E = config.encoder->hidden_size;
  const double keys_values = 2.0 * config.decoder.num_kv_heads * config.decoder.head_dim;
  const bool kept = form == CrossAttentionForm::cached;
  const double tokens = static_cast<double>(what.contexts()) * what.test.context;
  const double scale = options.int8_latents ? 4 : 0;
  const double context = kept ? keys_values * basis.element_bytes : E * basis.latent_bytes + scale;
  return query_output * basis.matrix_bytes + (kept ? 0 : E * keys_values * basis.element_bytes) + tokens * context;
}

Work decoder_pass(const Counted& of, const Pass& pass) {
  const auto& [config, what, options, basis] = of;
  const StackConfig& c = config.decoder;
  const LayerSizes sizes(c);
  const double B = what.batch, heads = static_cast<double>(c.num_heads) * c.head_dim, keys = pass.before + pass.tokens;
  const int64_t cross_layers = what.contexts() > 0 ? config.num_cross_attn_layers : 0;
  Work work;
  for (int64_t i = 0; i < c.num_layers; ++i) {
    const int64_t asking = i + 1 == c.num_layers ? pass.wanted : pass.tokens;
    const double rows = asking, pairs = rows * keys - rows * (rows - 1) / 2;  // the last row sees all keys
    work.operations += 2 * B * (pass.tokens * sizes.key_value + rows * (sizes.query_output + sizes.feed_forward));
    work.operations += 4 * heads * B * pairs;
    work.bytes += sizes.all() * basis.matrix_bytes + basis.element_bytes * B * keys * 2 * c.num_kv_heads * c.head_dim;
    if (i < c.num_layers - cross_layers) continue;
    const CrossAttentionForm form = form_for(of, asking);
    work.operations += cross_operations(of, form, asking);
    work.bytes += cross_bytes(of, form, sizes.query_output);
  }
  const double head = static_cast<double>(c.vocab_size) * c.hidden_size;
  work.operations += 2 * head * B * pass.wanted;
  work.bytes += head * basis.head_bytes;
  return work;
}

Work encoder_pass(const Counted& of) {
  const auto& [config, what, options, basis] = of;
  const StackConfig& c = *config.encoder;
  const double S = what.test.context, L = context_chunk_length(config);
  const double heads = static_cast<double>(c.num_heads) * c.head_dim;
  const double rest = what.test.context % context_chunk_length(config), pairs = (S - rest) * L + rest * rest;
  const bool projected = config.encoder_embeddings == EncoderEmbeddings::decoder_projected;
  const double weights = c.num_layers * LayerSizes(c).all() +
                         (projected ? static_cast<double>(c.hidden_size) * config.decoder.hidden_size : 0);
  return {.operations = what.contexts() * (2 * weights * S + c.num_layers * 4 * heads * pairs),
          .bytes = weights * basis.encoder_bytes};
}

}  // namespace

WorkBasis work_basis(const Cepe& model, const BenchOptions& options) {
  WorkBasis basis(static_cast<double>(c10::elementSize(model.dtype())));
  if (options.int8_latents) basis.latent_bytes = 1;
  basis.rates = device_rates(model.device(), model.dtype());
  const Linear& up = model.decoder.stack.layers.at(0).feed_forward.up;
  if (up.quantised) basis.matrix_bytes = read_bytes_a_weight(*up.quantised);
  if (model.encoder) {
    const Linear& encoder_up = model.encoder->stack.layers.at(0).feed_forward.up;
    if (encoder_up.quantised) basis.encoder_bytes = read_bytes_a_weight(*encoder_up.quantised);
  }
  if (model.decoder.quantised_head) basis.head_bytes = read_bytes_a_weight(*model.decoder.quantised_head);
  return basis;
}

Work count_work(const CepeConfig& config, const BenchCase& what, const BenchOptions& options, const WorkBasis& basis) {
  const Counted of{config, what, options, basis};
  using Kind = BenchTest::Kind;
  const BenchTest& test = what.test;
  Work total;
  const auto add = [&](const Work& work) {
    total.operations += work.operations;
    total.bytes += work.bytes;
  };
  if ((test.kind == Kind::encode || test.kind == Kind::score) && test.context > 0) add(encoder_pass(of));
  if (test.kind == Kind::prefill) add(decoder_pass(of, {test.tokens, 0, 1}));
  if (test.kind == Kind::score) add(decoder_pass(of, {test.tokens, 0, test.tokens}));
  if (test.kind == Kind::generate) {
    for (int64_t i = 0; i < test.tokens; ++i) add(decoder_pass(of, {1, options.window_tokens + i, 1}));
  }
  return total;
}

CrossAttentionForm form_taken(const CepeConfig& config, const BenchCase& what, const BenchOptions& options,
                              const WorkBasis& basis) {
  return form_for({config, what, options, basis}, what.test.kind == BenchTest::Kind::generate ? 1 : what.test.tokens);
}

}  // namespace cepe
