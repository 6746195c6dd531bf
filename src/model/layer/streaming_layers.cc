#include "model/layer/streaming_layers.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "model/layer/eager_layers.h"
#include "model/layer/layer_walk.h"
#include "ops/ops.h"

namespace cepe {
namespace {

// What a layer keeps: keys before rotation, and values, of the sinks and then of the recent tokens.
struct KeptTokens {
  at::Tensor k_BSGK, v_BSGK;  // undefined before the first block
};

// Which tokens a block reads, and at which places.
struct Block {
  int64_t first, tokens;              // in the text
  int64_t sinks;                      // how many of the keys are sinks
  int64_t kept;                       // how many keys are kept after the block, beside the sinks
  RotaryTable at_text_T, at_cache_T;  // rotations of the queries: for recent keys, and for sinks
  RotaryTable keys_S;                 // of all keys
  at::Tensor allowed_TS;              // bool
};

RotaryTable rows_of(const RotaryTable& table, const at::Tensor& positions) {
  return {table.cos.index_select(0, positions), table.sin.index_select(0, positions)};
}

Block block_of(const StreamingInput& input, const RotaryTable& table, int64_t first, int64_t tokens) {
  const auto options = at::TensorOptions().dtype(at::kLong).device(input.ids_BT.device());
  const int64_t end = first + tokens, sinks = std::min(input.sinks, end);
  const int64_t oldest = std::max(sinks, first - input.recent);  // of the recent tokens that the block reads
  const at::Tensor texts = at::arange(first, end, options);
  const at::Tensor keys = at::cat({at::arange(sinks, options), at::arange(oldest, std::max(oldest, end), options)});
  const at::Tensor queries = texts.unsqueeze(1);
  Block block{first, tokens, sinks, std::clamp<int64_t>(end - sinks, 0, input.recent), {}, {}, {}, {}};
  block.at_text_T = rows_of(table, texts);
  block.at_cache_T = rows_of(table, texts.clamp_max(input.sinks + input.recent));
  block.keys_S = rows_of(table, keys);
  block.allowed_TS = (keys <= queries).logical_and((keys < sinks).logical_or(keys >= queries - input.recent));
  return block;
}

// The layers of a block. The base rotates by nothing: its table turns by angles of 0, so that keys can be kept as they
// were before rotation.
class StreamingLayers : public EagerLayers {
 public:
  StreamingLayers(at::Tensor x_BTD, const StackConfig& config, const RotaryTable& unturned, const Block& block,
                  std::vector<KeptTokens>& kept)
      : EagerLayers(std::move(x_BTD), config, unturned, {.causal = true}), block_(block), kept_(kept) {}

  void begin(size_t layer) { layer_ = layer; }

  at::Tensor attention(const SelfAttention&, RotaryGemm qkv) {
    KeptTokens& kept = kept_[layer_];
    const at::Tensor k = kept.k_BSGK.defined() ? at::cat({kept.k_BSGK, qkv.k_BTGK}, 1) : qkv.k_BTGK;
    const at::Tensor v = kept.v_BSGK.defined() ? at::cat({kept.v_BSGK, qkv.v_BTGK}, 1) : qkv.v_BTGK;
    const at::Tensor out = attend(qkv.q_BTHK, k, v);
    kept = {remaining(k), remaining(v)};
    return out;
  }

 private:
  // The sinks and the most recent tokens.
  at::Tensor remaining(const at::Tensor& x_BSGK) const {
    const int64_t S = x_BSGK.size(1);
    return at::cat({x_BSGK.narrow(1, 0, block_.sinks), x_BSGK.narrow(1, S - block_.kept, block_.kept)}, 1);
  }

  // q (B, T, H, K) by the rotation -> (B, G, H / G * T, K), in the type of the scores: those of one key-value head
  // together.
  at::Tensor queries(const at::Tensor& q_BTHK, const RotaryTable& rotation) const {
    const int64_t B = q_BTHK.size(0), T = q_BTHK.size(1), G = config_.num_kv_heads, K = config_.head_dim;
    const at::Tensor turned = rotary(q_BTHK, rotation, 0).view({B, T, G, config_.num_heads / G, K});
    return wide(turned.permute({0, 2, 3, 1, 4}).reshape({B, G, config_.num_heads / G * T, K}));
  }
  static at::Tensor wide(const at::Tensor& x) { return x.scalar_type() == at::kDouble ? x : x.to(at::kFloat); }

  at::Tensor attend(const at::Tensor& q_BTHK, const at::Tensor& k_BSGK, const at::Tensor& v_BSGK) const {
    const int64_t B = q_BTHK.size(0), T = q_BTHK.size(1), S = k_BSGK.size(1), H = config_.num_heads,
                  G = config_.num_kv_heads, K = config_.head_dim, sinks = block_.sinks;
    const at::Tensor k_BGKS = wide(rotary(k_BSGK, block_.keys_S, 0)).permute({0, 2, 3, 1});
    at::Tensor scores = at::cat({at::matmul(queries(q_BTHK, block_.at_cache_T), k_BGKS.narrow(3, 0, sinks)),
                                 at::matmul(queries(q_BTHK, block_.at_text_T), k_BGKS.narrow(3, sinks, S - sinks))},
                                3);
    scores = scores.mul_(1 / std::sqrt(static_cast<double>(K))).view({B, G, H / G, T, S});
    scores.masked_fill_(block_.allowed_TS.logical_not(), -INFINITY);
    const at::Tensor weights = scores.softmax(-1).view({B, G, H / G * T, S});
    const at::Tensor out = at::matmul(weights, wide(v_BSGK).permute({0, 2, 1, 3})).view({B, G, H / G, T, K});
    return out.permute({0, 3, 1, 2, 4}).reshape({B, T, H * K}).to(q_BTHK.scalar_type());
  }

  const Block& block_;
  std::vector<KeptTokens>& kept_;
  size_t layer_ = 0;
};

void check(const Cepe& model, const StreamingInput& input) {
  const StackConfig& config = model.decoder.stack.config;
  require(input.ids_BT.dim() == 2 && input.ids_BT.size(1) > 0, "StreamingLLM: expected tokens (batch, tokens)");
  require(input.sinks >= 0 && input.recent >= 1 && input.block_tokens >= 1,
          "StreamingLLM: expected 0 or more sinks and 1 or more recent tokens, found {} and {}", input.sinks,
          input.recent);
  const int64_t cache = input.sinks + input.recent + 1;
  require(cache <= decoder_window(config),
          "StreamingLLM: {} sinks, {} recent tokens and the token itself exceed the decoder's window of {}",
          input.sinks, input.recent, decoder_window(config));
  require(config.rope.kind != RopeKind::dynamic,
          "StreamingLLM: the decoder's rotary frequencies change with the length (dynamic), which the formula forbids");
  require(input.last >= 0 && input.last <= input.ids_BT.size(1),
          "StreamingLLM: the states of the last {} of {} tokens are asked for", input.last, input.ids_BT.size(1));
}

}  // namespace

at::Tensor decode_streaming(const Cepe& model, const StreamingInput& input) {
  check(model, input);
  const at::NoGradGuard no_grad;
  const Stack& stack = model.decoder.stack;
  const int64_t T = input.ids_BT.size(1), wanted = input.last > 0 ? T - input.last : 0;
  const RotaryTable table = stack.rotary.table(stack.config, T, stack.norm);
  std::vector<KeptTokens> kept(stack.layers.size());
  std::vector<at::Tensor> states;
  for (int64_t first = 0; first < T; first += input.block_tokens) {
    const int64_t tokens = std::min(input.block_tokens, T - first);
    const Block block = block_of(input, table, first, tokens);
    const RotaryTable unturned{at::ones_like(block.at_text_T.cos), at::zeros_like(block.at_text_T.sin)};
    StreamingLayers run(at::embedding(stack.embedding, input.ids_BT.narrow(1, first, tokens)), stack.config, unturned,
                        block, kept);
    walk_layers(stack, 0, stack.layers.size(), run);
    const int64_t skip = std::clamp<int64_t>(wanted - first, 0, tokens);
    if (skip < tokens) states.push_back(run.residual().narrow(1, skip, tokens - skip));
  }
  return rms_norm(at::cat(states, 1), stack.norm, stack.config.rms_norm_eps);
}

}  // namespace cepe
