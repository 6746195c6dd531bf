#include "ops/latent/latent_attention.h"

#include <ATen/ATen.h>

#include <cmath>

#include "base/error.h"
#include "ops/latent/latent_attention_cpu.h"
#include "ops/latent/latent_attention_cuda.h"
#include "ops/latent/latent_int8.h"
#include "ops/operand.h"

namespace cepe {
namespace {

bool cpu_kernel_applies(const at::Tensor& states_BSE) {
  const auto type = states_BSE.scalar_type();
  return states_BSE.is_cpu() && (type == at::kFloat || type == at::kBFloat16 || type == at::kByte);
}

at::Tensor dense_states(const LatentStates& context, at::ScalarType dtype) {
  if (context.scales_BS.defined()) return dequantize_states({context.states_BSE, context.scales_BS}, dtype);
  return context.states_BSE;
}

at::Tensor by_products(const at::Tensor& query_BNE, const LatentStates& context, double scale) {
  const int64_t B = query_BNE.size(0), S = context.states_BSE.size(1), E = context.states_BSE.size(2);
  const at::Tensor states = dense_states(context, query_BNE.scalar_type()).expand({B, S, E});
  at::Tensor scores_BNS = at::matmul(query_BNE, states.transpose(1, 2)).mul(scale);
  at::Tensor empty_row;
  if (context.mask_BS.defined()) {
    const at::Tensor padding = context.mask_BS.logical_not().unsqueeze(1);
    empty_row = padding.all(-1, /*keepdim=*/true);
    scores_BNS = scores_BNS.masked_fill(padding.logical_and(empty_row.logical_not()), -INFINITY);
  }
  const at::Tensor wide = scores_BNS.scalar_type() == at::kDouble ? scores_BNS : scores_BNS.to(at::kFloat);
  const at::Tensor read_BNE = at::matmul(wide.softmax(-1).to(states.scalar_type()), states);
  return empty_row.defined() ? read_BNE.masked_fill(empty_row, 0) : read_BNE;
}

}  // namespace

at::Tensor latent_attention(const at::Tensor& query_BNE, const LatentStates& context, double scale) {
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
  if (wants_gradient(query_BNE) || wants_gradient(states_BSE)) return by_products(query_BNE, context, scale);
  if (cuda_latent_attention_applies(query_BNE, states_BSE)) return cuda_latent_attention(query_BNE, context, scale);
  if (cpu_kernel_applies(states_BSE)) return cpu_latent_attention(query_BNE, context, scale);
  return by_products(query_BNE, context, scale);
}

}  // namespace cepe
