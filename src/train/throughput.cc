#include "train/throughput.h"

namespace cepe {
namespace {

// Of one token in one layer's projections: q and o, k and v, and the feed-forward part.
double self_projections(const StackConfig& c) {
  const double D = c.hidden_size, K = c.head_dim;
  return 2 * D * K * (2.0 * c.num_heads + 2.0 * c.num_kv_heads) + 6 * D * c.intermediate_size;
}

}  // namespace

double training_flops(const CepeConfig& config, const SampleShape& shape) {
  const StackConfig& decoder = config.decoder;
  const double T = static_cast<double>(shape.decoder_tokens), S = static_cast<double>(shape.context_tokens);
  const double L = shape.chunks > 0 ? S / static_cast<double>(shape.chunks) : 0;
  const double heads = static_cast<double>(decoder.num_heads) * decoder.head_dim;
  const double kv_heads = static_cast<double>(decoder.num_kv_heads) * decoder.head_dim;
  const double layers = decoder.num_layers, cross_layers = config.encoder ? config.num_cross_attn_layers : 0;
  double total = 0;
  if (config.encoder) {
    const StackConfig& encoder = *config.encoder;
    const double E = encoder.hidden_size, encoder_heads = static_cast<double>(encoder.num_heads) * encoder.head_dim;
    total += encoder.num_layers * 3 * S * (self_projections(encoder) + 4 * L * encoder_heads);
    const double states = S / static_cast<double>(decoder.cross.pooling);
    const double projections = T * 4 * decoder.hidden_size * heads + states * 4 * E * kv_heads;
    total += cross_layers * 3 * (projections + T * 4 * states * heads);
  }
  const std::vector<int64_t>& named = decoder.cross.layers;
  const double above = named.empty() || !config.encoder ? cross_layers : layers - static_cast<double>(named.front());
  // The frozen decoder: forward in all layers, gradients of activations from the first cross-attention upwards.
  const double layer = T * self_projections(decoder), causal = T * 2 * T * heads;
  total += layers * (layer + causal) + above * (layer + 2 * causal);
  total +=
      2 * static_cast<double>(shape.scored_tokens) * 2 * decoder.hidden_size * static_cast<double>(decoder.vocab_size);
  return total;
}

double reading_flops(const StackConfig& decoder, int64_t tokens, int64_t scored) {
  const double T = static_cast<double>(tokens), N = static_cast<double>(scored);
  const double heads = static_cast<double>(decoder.num_heads) * decoder.head_dim;
  return decoder.num_layers * (T * self_projections(decoder) + T * 2 * T * heads) +
         N * 2 * decoder.hidden_size * static_cast<double>(decoder.vocab_size);
}

double decoder_training_flops(const StackConfig& decoder, const SampleShape& shape) {
  return 3 * reading_flops(decoder, shape.decoder_tokens, shape.scored_tokens);
}

double masked_lm_training_flops(const StackConfig& encoder, const SampleShape& shape) {
  const double L = static_cast<double>(shape.decoder_tokens), N = static_cast<double>(shape.scored_tokens);
  const double E = encoder.hidden_size, heads = static_cast<double>(encoder.num_heads) * encoder.head_dim;
  const double layer = L * self_projections(encoder) + L * 4 * L * heads;
  return 3 * (encoder.num_layers * layer + N * 2 * E * E + N * 2 * E * static_cast<double>(encoder.vocab_size));
}

}  // namespace cepe
