#include "ops/attention_mass/attention_mass.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "ops/attention_mass/attention_mass_cuda.h"
#include "ops/latent/latent_int8.h"

namespace cepe {
namespace {

constexpr int64_t kTile = 64;
constexpr int64_t kTokensAtOnce = 4096;              // tokens that are widened and scored at a time
constexpr int64_t kScoreBytes = int64_t{128} << 20;  // of scores that are kept at a time

// softmax of some rows of one context, (R, E) on (S, E) -> (R, S)
at::Tensor weights_of(const at::Tensor& query_RE, const LatentStates& context, double scale) {
  const auto& [states_SE, mask_S, scales_S, inputs_ready] = context;
  const int64_t S = states_SE.size(0);
  const at::Tensor scores = at::empty({query_RE.size(0), S}, query_RE.options());
  for (int64_t first = 0; first < S; first += kTokensAtOnce) {
    const int64_t n = std::min(kTokensAtOnce, S - first);
    at::Tensor states = states_SE.narrow(0, first, n);
    states = scales_S.defined() ? dequantize_states({states, scales_S.narrow(0, first, n)}, query_RE.scalar_type())
                                : states.to(query_RE.scalar_type());
    scores.narrow(1, first, n).copy_(at::mm(query_RE, states.t()));
  }
  scores.mul_(scale);
  if (mask_S.defined()) scores.masked_fill_(mask_S.logical_not().unsqueeze(0), -INFINITY);
  return scores.softmax(-1);
}

// (R, S) -> (R, M)
at::Tensor sums_by_chunk(const at::Tensor& weights_RS, const ChunkBounds& chunks) {
  const at::Tensor sums = weights_RS.cumsum(-1, at::kDouble).index_select(1, chunks.ends_M - 1);
  const at::Tensor before = at::constant_pad_nd(sums.narrow(1, 0, sums.size(1) - 1), {1, 0});
  return sums - before;
}

at::Tensor mass_by_products(const at::Tensor& query_BNE, const LatentStates& context, const ChunkBounds& chunks,
                            double scale) {
  const int64_t C = context.states_BSE.size(0), E = query_BNE.size(2), S = context.states_BSE.size(1);
  const at::ScalarType type = query_BNE.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const at::Tensor query_CRE = query_BNE.reshape({C, -1, E}).to(type);
  const int64_t R = query_CRE.size(1), at_once = std::max<int64_t>(1, kScoreBytes / (S * 8));
  const at::Tensor mass = at::empty({C, R, chunks.count()}, query_CRE.options());
  for (int64_t c = 0; c < C; ++c) {
    LatentStates own{context.states_BSE[c]};
    if (context.mask_BS.defined()) own.mask_BS = context.mask_BS[c];
    if (context.scales_BS.defined()) own.scales_BS = context.scales_BS[c];
    if (own.mask_BS.defined() && !own.mask_BS.any().item<bool>()) {
      mass[c].zero_();
      continue;
    }
    for (int64_t first = 0; first < R; first += at_once) {
      const int64_t n = std::min(at_once, R - first);
      mass[c]
          .narrow(0, first, n)
          .copy_(sums_by_chunk(weights_of(query_CRE[c].narrow(0, first, n), own, scale), chunks));
    }
  }
  return mass.view({query_BNE.size(0), query_BNE.size(1), chunks.count()});
}

}  // namespace

ChunkBounds::ChunkBounds(const std::vector<int64_t>& lengths, const at::Device& device)
    : count_(static_cast<int64_t>(lengths.size())) {
  std::vector<int64_t> ends;
  std::vector<int32_t> tiles, first_tiles;
  for (const int64_t length : lengths) {
    require(length > 0, "attention mass: a chunk of {} tokens", length);
    first_tiles.push_back(static_cast<int32_t>(tile_tokens.size()));
    for (int64_t first = 0; first < length; first += kTile) {
      tile_tokens.push_back(tokens_ + first);
      tiles.push_back(static_cast<int32_t>(tokens_ + first));
      tiles.push_back(static_cast<int32_t>(std::min(kTile, length - first)));
    }
    ends.push_back(tokens_ += length);
  }
  first_tiles.push_back(static_cast<int32_t>(tile_tokens.size()));
  tile_tokens.push_back(tokens_);
  ends_M = at::tensor(ends, at::kLong).to(device);
  if (!device.is_cuda()) return;
  tiles_T2 = at::tensor(tiles, at::kInt).view({-1, 2}).to(device);
  first_tiles_M = at::tensor(first_tiles, at::kInt).to(device);
}

at::Tensor attention_mass(const at::Tensor& query_BNE, const LatentStates& context, const ChunkBounds& chunks,
                          double scale) {
  const at::NoGradGuard no_gradients;
  const auto& [states_BSE, mask_BS, scales_BS, inputs_ready] = context;
  const int64_t B = query_BNE.size(0), E = query_BNE.size(2), S = states_BSE.size(1), contexts = states_BSE.size(0);
  require(states_BSE.size(2) == E, "attention mass: queries of width {} on states of width {}", E, states_BSE.size(2));
  require(contexts == 1 || contexts == B, "attention mass: {} contexts for a batch of {}", contexts, B);
  require(chunks.count() > 0 && chunks.tokens() == S, "attention mass: chunks of {} tokens in all for a context of {}",
          chunks.tokens(), S);
  require(!mask_BS.defined() || (mask_BS.size(0) == contexts && mask_BS.size(1) == S),
          "attention mass: the mask should be {} x {}", contexts, S);
  require(scales_BS.defined() == (states_BSE.scalar_type() == at::kByte),
          "attention mass: states in 8 bits come with scales, others without");
  if (cuda_attention_mass_applies(query_BNE, states_BSE)) return cuda_attention_mass(query_BNE, context, chunks, scale);
  return mass_by_products(query_BNE, context, chunks, scale);
}

}  // namespace cepe
