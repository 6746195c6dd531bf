#include "ops/context/context_blocks.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "ops/context/context_attention.h"
#include "ops/context/context_attention_cpu.h"

namespace cepe {
namespace {

constexpr int64_t kBlock = ContextKeysValues::kBlock;

// By LibTorch's products, for what the kernel does not take.
at::Tensor plain_block_sums(const at::Tensor& q_CGNK, const ContextKeysValues& context, const at::Tensor& mask_CS) {
  constexpr int64_t kAtOnce = 64;  // blocks
  const double scale = 1.0 / std::sqrt(static_cast<double>(q_CGNK.size(3)));
  const at::ScalarType type = q_CGNK.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  std::vector<at::Tensor> parts;
  for (int64_t first = 0; first < context.tokens; first += kAtOnce * kBlock) {
    const int64_t n = std::min(kAtOnce * kBlock, context.tokens - first), blocks = (n + kBlock - 1) / kBlock;
    const at::Tensor k = read_keys_values(context, first, n).first.to(type);
    at::Tensor scores = at::matmul(q_CGNK.to(type), k.transpose(2, 3)).mul_(scale);
    if (mask_CS.defined())
      scores.masked_fill_(mask_CS.narrow(1, first, n).logical_not().view({-1, 1, 1, n}), -INFINITY);
    scores = at::constant_pad_nd(scores, {0, blocks * kBlock - n}, -INFINITY);
    parts.push_back(scores.unflatten(-1, {blocks, kBlock}).logsumexp(-1));
  }
  return at::cat(parts, -1);
}

}  // namespace

at::Tensor block_sums(const at::Tensor& q_CGNK, const ContextKeysValues& context, const at::Tensor& mask_CS) {
  require(context.blocked() && context.tokens > 0, "sparse reading: keys and values are not kept in blocks");
  return context_kernel_applies(q_CGNK, context) ? run_block_sums(q_CGNK, context, mask_CS)
                                                 : plain_block_sums(q_CGNK, context, mask_CS);
}

ContextKeysValues choose_blocks(const at::Tensor& q_BTHK, const ContextKeysValues& context, const at::Tensor& mask_CS,
                                double share) {
  const int64_t C = context.k.size(0), G = context.k.size(1);
  require(share > 0 && share <= 1, "sparse reading: expected a share above 0 and at most 1, found {}", share);
  ContextKeysValues part = context;
  part.chosen.reset();
  const at::Tensor sums = block_sums(fold_queries(q_BTHK, C, G), context, mask_CS);
  const at::Tensor mass_HM = sums.to(at::kDouble).softmax(-1).mean(2).flatten(0, 1).nan_to_num_(0);
  const auto [largest, order] = mass_HM.sort(-1, /*descending=*/true);
  // A block is taken as long as those before it hold too little.
  const at::Tensor taken = (largest.cumsum(-1) - largest).lt(share);
  const at::Tensor chosen = at::zeros_like(taken).scatter_(1, order, taken);
  if (share < 1 && !chosen.all().item<bool>()) part.chosen = chosen.flatten().nonzero().flatten();
  return part;
}

}  // namespace cepe
