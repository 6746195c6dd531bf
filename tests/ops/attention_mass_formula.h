// Softmax weights in float64, summed chunk by chunk.
#pragma once

#include <ATen/ATen.h>

#include <cmath>
#include <vector>

namespace cepe {

inline at::Tensor mass_formula(const at::Tensor& query, const at::Tensor& states, const at::Tensor& mask,
                               const std::vector<int64_t>& lengths, double scale) {
  const at::Tensor wide = states.to(at::kDouble).expand({query.size(0), states.size(1), states.size(2)});
  at::Tensor scores = at::bmm(query.to(at::kDouble), wide.transpose(1, 2)) * scale;
  if (mask.defined()) scores = scores.masked_fill(mask.logical_not().unsqueeze(1), -INFINITY);
  const at::Tensor weights = scores.softmax(-1).nan_to_num(0.0);
  std::vector<at::Tensor> sums;
  int64_t first = 0;
  for (const int64_t length : lengths) {
    sums.push_back(weights.narrow(2, first, length).sum(-1));
    first += length;
  }
  return at::stack(sums, -1);
}

}  // namespace cepe
