#include "eval/continuation_losses.h"

#include <ATen/ATen.h>

#include <map>

#include "base/error.h"
#include "ops/ops.h"

namespace cepe {

at::Tensor scoring_head(const Cepe& model) {
  return head_weight(model).to(model.dtype() == at::kDouble ? at::kDouble : at::kFloat);
}

std::vector<double> continuation_losses(const Cepe& model, const Context* context, std::span<const TokenId> prompt,
                                        std::span<const std::vector<TokenId>> continuations) {
  require(!prompt.empty(), "likelihood: expected a prompt, found none");
  std::map<std::vector<TokenId>, std::vector<size_t>> sharing;  // by the tokens before the last one
  for (size_t i = 0; i < continuations.size(); ++i) {
    require(!continuations[i].empty(), "likelihood: expected a continuation of one token or more, found none");
    sharing[{continuations[i].begin(), continuations[i].end() - 1}].push_back(i);
  }
  const at::NoGradGuard no_gradients;
  const at::Tensor head_VD = scoring_head(model);
  std::vector<double> losses(continuations.size());
  for (const auto& [before, members] : sharing) {
    std::vector<int64_t> ids(prompt.begin(), prompt.end());
    ids.insert(ids.end(), before.begin(), before.end());
    DecodeInput input{at::tensor(ids).unsqueeze(0).to(model.device())};
    if (context && context->tokens() > 0) input.context = &context->latents;
    input.last = static_cast<int64_t>(before.size()) + 1;
    const at::Tensor hidden_ND = decode(model, input)[0].to(head_VD.scalar_type());
    for (const size_t member : members) {
      const std::vector<int64_t> labels(continuations[member].begin(), continuations[member].end());
      losses[member] = linear_cross_entropy(hidden_ND, head_VD, at::tensor(labels).to(model.device()))
                           .to(at::kDouble)
                           .sum()
                           .item<double>();
    }
  }
  return losses;
}

}  // namespace cepe
