#include "generate/token_choice.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "base/error.h"

namespace cepe {

SlotSamplers::SlotSamplers(const at::Device& device, int64_t slots, int64_t vocabulary) : vocabulary_(vocabulary) {
  if (DeviceSampler::applies(device)) {
    device_ = std::make_unique<DeviceSampler>(device, slots, vocabulary);
  } else {
    host_.resize(static_cast<size_t>(slots));
  }
}

void SlotSamplers::set(int64_t slot, const SamplerOptions& options, std::span<const TokenId> seen) {
  if (!device_) {
    host_.at(static_cast<size_t>(slot)).emplace(options).observe(seen);
    return;
  }
  // Others are never chosen, so nothing penalises them.
  std::vector<TokenId> known;
  std::copy_if(seen.begin(), seen.end(), std::back_inserter(known), [&](TokenId token) { return token < vocabulary_; });
  device_->set(slot, options, known);
}

void SlotSamplers::move(int64_t from, int64_t to) {
  if (device_) {
    device_->move(from, to);
  } else if (from != to) {
    host_.at(static_cast<size_t>(to)) = std::move(host_.at(static_cast<size_t>(from)));
  }
}

std::vector<TokenChoice> SlotSamplers::choose(const at::Tensor& logits_NV, int64_t first, const at::Tensor& stepped_N) {
  if (device_) return choose_on_device(logits_NV, first, stepped_N);
  const at::Tensor on_host = logits_NV.to(at::kCPU, at::kFloat).contiguous();
  const auto* values = on_host.const_data_ptr<float>();
  std::vector<TokenChoice> choices;
  for (int64_t row = 0; row < on_host.size(0); ++row) {
    Sampler& sampler = host_.at(static_cast<size_t>(first + row)).value();
    TokenChoice& choice = choices.emplace_back();
    try {
      choice.token = sampler.sample({values + row * on_host.size(1), static_cast<size_t>(vocabulary_)});
    } catch (const Error& error) {
      choice.error = error.what();
    }
  }
  return choices;
}

// 16 bytes a sequence come to the host in place of the logits.
std::vector<TokenChoice> SlotSamplers::choose_on_device(const at::Tensor& logits_NV, int64_t first, at::Tensor ids_N) {
  const int64_t count = logits_NV.size(0);
  if (!ids_N.defined()) {
    ids_N = at::empty({count}, logits_NV.options().dtype(at::kLong));
    device_->sample(logits_NV.contiguous(), ids_N, first);
  }
  const at::Tensor failed_N = device_->failed_B().narrow(0, first, count).to(at::kLong);
  const at::Tensor found = at::cat({ids_N, failed_N}).to(at::kCPU);
  const auto* values = found.const_data_ptr<int64_t>();
  std::vector<TokenChoice> choices;
  for (int64_t row = 0; row < count; ++row) {
    const bool failed = values[count + row] != 0;
    choices.push_back(
        {static_cast<TokenId>(values[row]),
         failed ? "sampling: a logit is not a finite number: the weights or the context are damaged" : ""});
  }
  return choices;
}

std::vector<TokenLogProbabilities> log_probabilities(const at::Tensor& logits_NV,
                                                     const std::vector<LogProbabilityRow>& rows, int64_t vocabulary) {
  if (rows.empty()) return {};
  std::vector<int64_t> indices, chosen;
  int64_t most = 0;
  for (const LogProbabilityRow& row : rows) {
    indices.push_back(row.row);
    chosen.push_back(row.chosen);
    most = std::max(most, row.best);
  }
  const auto on_device = [&](const std::vector<int64_t>& of) {
    return at::tensor(of, at::kLong).to(logits_NV.device());
  };
  const at::Tensor all_RV = at::log_softmax(logits_NV.index_select(0, on_device(indices)).to(at::kFloat), -1);
  const at::Tensor chosen_R1 = all_RV.gather(1, on_device(chosen).unsqueeze(1)).to(at::kCPU);
  at::Tensor values_RM, tokens_RM;
  if (most > 0) {
    std::tie(values_RM, tokens_RM) = all_RV.narrow(1, 0, vocabulary).topk(most, -1);
    values_RM = values_RM.to(at::kCPU), tokens_RM = tokens_RM.to(at::kCPU);
  }
  std::vector<TokenLogProbabilities> found;
  for (size_t r = 0; r < rows.size(); ++r) {
    TokenLogProbabilities& of = found.emplace_back();
    of.chosen = {rows[r].chosen, chosen_R1.const_data_ptr<float>()[r]};
    for (int64_t i = 0; i < rows[r].best; ++i) {
      const int64_t at = static_cast<int64_t>(r) * most + i;
      of.best.push_back(
          {static_cast<TokenId>(tokens_RM.const_data_ptr<int64_t>()[at]), values_RM.const_data_ptr<float>()[at]});
    }
  }
  return found;
}

}  // namespace cepe
