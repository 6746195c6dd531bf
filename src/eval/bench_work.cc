// The operations and bytes of a benchmark's case, from the model's sizes alone.
#include "base/error.h"
#include "eval/bench.h"
#include "generate/prompt.h"

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

CrossAttentionForm form_for(const CepeConfig& config, const BenchCase& what, int64_t tokens) {
  if (what.form != CrossAttentionForm::automatic) return what.form;
  const int64_t rows = tokens * (what.contexts() == 1 ? what.batch : 1);
  return choose_cross_attention_form(config.decoder, config.encoder->hidden_size, rows);
}

// One layer's cross-attention for `tokens` rows of each sequence.
double cross_operations(const CepeConfig& config, const BenchCase& what, int64_t tokens) {
  const StackConfig& c = config.decoder;
  const double D = c.hidden_size, H = c.num_heads, G = c.num_kv_heads, K = c.head_dim, E = config.encoder->hidden_size;
  const double S = what.test.context, rows = static_cast<double>(what.batch) * tokens;
  const double query_output = rows * 4 * D * H * K;
  if (form_for(config, what, tokens) == CrossAttentionForm::absorbed) {
    return query_output + rows * (4 * H * K * E + 4 * S * H * E);
  }
  return query_output + what.contexts() * S * 4 * E * G * K + rows * 4 * S * H * K;
}

Work decoder_pass(const CepeConfig& config, const BenchCase& what, const Pass& pass) {
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
    work.bytes += sizes.all() + B * keys * 2 * c.num_kv_heads * c.head_dim;
    if (i < c.num_layers - cross_layers) continue;
    const double E = config.encoder->hidden_size;
    work.operations += cross_operations(config, what, asking);
    work.bytes += sizes.query_output + 2 * E * c.num_kv_heads * c.head_dim;
    work.bytes += static_cast<double>(what.contexts()) * what.test.context * E;
  }
  const double head = static_cast<double>(c.vocab_size) * c.hidden_size;
  work.operations += 2 * head * B * pass.wanted;
  work.bytes += head;
  return work;
}

Work encoder_pass(const CepeConfig& config, const BenchCase& what) {
  const StackConfig& c = *config.encoder;
  const double S = what.test.context, L = context_chunk_length(config), heads = static_cast<double>(c.num_heads) * c.head_dim;
  const double rest = what.test.context % context_chunk_length(config), pairs = (S - rest) * L + rest * rest;
  const bool projected = config.encoder_embeddings == EncoderEmbeddings::decoder_projected;
  const double weights = c.num_layers * LayerSizes(c).all() +
                         (projected ? static_cast<double>(c.hidden_size) * config.decoder.hidden_size : 0);
  return {.operations = what.contexts() * (2 * weights * S + c.num_layers * 4 * heads * pairs), .bytes = weights};
}

}  // namespace

Work count_work(const CepeConfig& config, const BenchCase& what, const BenchOptions& options, int64_t element_bytes) {
  using Kind = BenchTest::Kind;
  const BenchTest& test = what.test;
  Work total;
  const auto add = [&](const Work& work) {
    total.operations += work.operations;
    total.bytes += work.bytes * element_bytes;
  };
  if ((test.kind == Kind::encode || test.kind == Kind::score) && test.context > 0) add(encoder_pass(config, what));
  if (test.kind == Kind::prefill) add(decoder_pass(config, what, {test.tokens, 0, 1}));
  if (test.kind == Kind::score) add(decoder_pass(config, what, {test.tokens, 0, test.tokens}));
  if (test.kind == Kind::generate) {
    for (int64_t i = 0; i < test.tokens; ++i) add(decoder_pass(config, what, {1, options.window_tokens + i, 1}));
  }
  return total;
}

CrossAttentionForm form_taken(const CepeConfig& config, const BenchCase& what) {
  return form_for(config, what, what.test.kind == BenchTest::Kind::generate ? 1 : what.test.tokens);
}

}  // namespace cepe
