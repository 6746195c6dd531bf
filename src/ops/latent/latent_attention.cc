#include "ops/latent/latent_attention.h"

#include <c10/core/GradMode.h>

#include "base/error.h"
#include "ops/latent/latent_attention_cpu.h"
#include "ops/latent/latent_attention_cuda.h"

namespace cepe {

bool latent_attention_applies(const at::Tensor& query_BNE, const at::Tensor& states_BSE) {
  const auto type = states_BSE.scalar_type();
  const bool gradient = c10::GradMode::is_enabled() && (query_BNE.requires_grad() || states_BSE.requires_grad());
  if (gradient) return false;
  if (cuda_latent_attention_applies(query_BNE, states_BSE)) return true;
  return states_BSE.device().is_cpu() && (type == at::kFloat || type == at::kBFloat16 || type == at::kByte);
}

at::Tensor latent_attention(const at::Tensor& query_BNE, const LatentStates& context, double scale,
                            LatentKernel wanted) {
  const auto& [states_BSE, mask_BS, scales_BS, inputs_ready] = context;
  const int64_t B = query_BNE.size(0), E = query_BNE.size(2), S = states_BSE.size(1), contexts = states_BSE.size(0);
  require(states_BSE.size(2) == E, "latent attention: queries of width {} on states of width {}", E,
          states_BSE.size(2));
  require(contexts == 1 || contexts == B, "latent attention: {} contexts for a batch of {}", contexts, B);
  require(!mask_BS.defined() || (mask_BS.size(0) == contexts && mask_BS.size(1) == S),
          "latent attention: the mask should be {} x {}", contexts, S);
  require(scales_BS.defined() == (states_BSE.scalar_type() == at::kByte) &&
              (!scales_BS.defined() || (scales_BS.size(0) == contexts && scales_BS.size(1) == S)),
          "latent attention: states in 8 bits, and they alone, come with {} x {} scales", contexts, S);
  if (cuda_latent_attention_applies(query_BNE, states_BSE)) return cuda_latent_attention(query_BNE, context, scale);
  return cpu_latent_attention(query_BNE, context, scale, wanted);
}

}  // namespace cepe
