#include "ops/attention_mass/attention_mass_cuda.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

#include "ops/attention_mass/attention_mass_kernel.h"
#include "ops/cuda/capability.h"
#include "ops/cuda/launch.h"
#include "ops/latent/latent_int8.h"
#include "ops/latent/latent_kernel.h"

namespace cepe {
namespace {

constexpr int64_t kWidenedTokens = 65536;                // of states in 8 bits, widened at a time
constexpr int64_t kStatisticBytes = int64_t{256} << 20;  // of rows that are scored at a time

// Some rows of one context, (R, E) on (S, E) -> mass (R, M)
void mass_of_rows(const at::Tensor& query_RE, const LatentStates& context, const ChunkBounds& chunks, float scale,
                  at::Tensor mass_RM) {
  const auto& [states_SE, mask_S, scales_S, inputs_ready] = context;
  const cuda::Launch launch(query_RE);
  mass_kernel::ScoreArgs args{};
  args.query = query_RE.const_data_ptr();
  args.rows = query_RE.size(0), args.width = query_RE.size(1), args.all_tiles = chunks.tiles_T2.size(0),
  args.scale = scale;
  args.tiles = chunks.tiles_T2.const_data_ptr<int>();
  args.mask = mask_S.defined() ? mask_S.const_data_ptr<bool>() : nullptr;
  const at::Tensor statistics =
      at::empty({mass_kernel::statistics_floats(args.rows, args.all_tiles)}, query_RE.options().dtype(at::kFloat));
  args.statistics = statistics.mutable_data_ptr<float>();
  const std::vector<int64_t>& firsts = chunks.tile_tokens;
  for (args.first_tile = 0; args.first_tile < args.all_tiles; args.first_tile += args.count) {
    args.first_token = firsts[static_cast<size_t>(args.first_tile)];
    args.count = args.all_tiles - args.first_tile;
    if (scales_S.defined()) {  // whole tiles
      const auto end =
          std::upper_bound(firsts.begin() + args.first_tile + 1, firsts.end(), args.first_token + kWidenedTokens);
      args.count = end - firsts.begin() - 1 - args.first_tile;
    }
    args.tokens = firsts[static_cast<size_t>(args.first_tile + args.count)] - args.first_token;
    at::Tensor states = states_SE.narrow(0, args.first_token, args.tokens);
    if (scales_S.defined())
      states = dequantize_states({states, scales_S.narrow(0, args.first_token, args.tokens)}, at::kBFloat16);
    args.states = states.const_data_ptr();
    mass_kernel::score_tiles(args, launch.stream());
  }
  mass_kernel::sum_by_chunk({args.statistics, chunks.first_tiles_M.const_data_ptr<int>(),
                             mass_RM.mutable_data_ptr<float>(), args.rows, chunks.count(), args.all_tiles},
                            launch.stream());
}

}  // namespace

bool cuda_attention_mass_applies(const at::Tensor& query_BNE, const at::Tensor& states_BSE) {
  const at::ScalarType type = states_BSE.scalar_type();
  return query_BNE.is_cuda() && query_BNE.scalar_type() == at::kBFloat16 &&
         (type == at::kBFloat16 || type == at::kByte) && latent_kernel::width_fits(query_BNE.size(2)) &&
         cuda::capability(query_BNE.get_device()).hopper;
}

at::Tensor cuda_attention_mass(const at::Tensor& query_BNE, const LatentStates& context, const ChunkBounds& chunks,
                               double scale) {
  const int64_t C = context.states_BSE.size(0), E = query_BNE.size(2), M = chunks.count();
  const at::Tensor query_CRE = cuda::dense(query_BNE).view({C, -1, E}), states_CSE = cuda::dense(context.states_BSE);
  const int64_t R = query_CRE.size(1), blocks = kStatisticBytes / (chunks.tiles_T2.size(0) * 1024);
  const int64_t at_once = std::max<int64_t>(1, blocks) * 32;
  const at::Tensor mass_CRM = at::empty({C, R, M}, query_BNE.options().dtype(at::kFloat));
  for (int64_t c = 0; c < C; ++c) {
    LatentStates own{states_CSE[c]};
    if (context.mask_BS.defined()) own.mask_BS = context.mask_BS[c].contiguous();
    if (context.scales_BS.defined()) own.scales_BS = context.scales_BS[c].contiguous();
    for (int64_t first = 0; first < R; first += at_once) {
      const int64_t n = std::min(at_once, R - first);
      mass_of_rows(query_CRE[c].narrow(0, first, n), own, chunks, static_cast<float>(scale),
                   mass_CRM[c].narrow(0, first, n));
    }
  }
  return mass_CRM.view({query_BNE.size(0), query_BNE.size(1), M});
}

}  // namespace cepe
