#include "eval/icl/continuation_scores.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "eval/continuation_losses.h"
#include "ops/ops.h"

namespace cepe {
namespace {

at::Tensor ids_of(std::span<const TokenId> tokens) {
  return at::tensor(std::vector<int64_t>(tokens.begin(), tokens.end())).unsqueeze(0);
}

// The prompt's keys and values in each of some rows, with room for more tokens.
KeyValueCache in_rows(const KeyValueCache& prompt, const Cepe& model, int64_t rows, int64_t more) {
  KeyValueCache cache = make_cache(model.decoder.stack, rows, prompt.length + more);
  for (size_t layer = 0; layer < cache.layers.size(); ++layer) {
    const LayerCache& from = prompt.layers[layer];
    cache.layers[layer].k_BSGK.narrow(1, 0, prompt.length).copy_(from.k_BSGK.narrow(1, 0, prompt.length));
    cache.layers[layer].v_BSGK.narrow(1, 0, prompt.length).copy_(from.v_BSGK.narrow(1, 0, prompt.length));
  }
  cache.length = prompt.length;
  return cache;
}

KeyValueCache first_rows(const KeyValueCache& cache, int64_t rows) {
  KeyValueCache some{.layers = {}, .length = cache.length, .capacity = cache.capacity};
  for (const LayerCache& layer : cache.layers) {
    some.layers.push_back({layer.k_BSGK.narrow(0, 0, rows), layer.v_BSGK.narrow(0, 0, rows)});
  }
  return some;
}

}  // namespace

ContinuationScorer::ContinuationScorer(const Cepe& model) : model_(model), head_VD_(scoring_head(model)) {}

at::Tensor ContinuationScorer::losses(const at::Tensor& hidden_ND, const at::Tensor& labels_N) const {
  return linear_cross_entropy(hidden_ND.to(head_VD_.scalar_type()), head_VD_, labels_N.to(model_.device()))
      .to(at::kDouble)
      .cpu();
}

void ContinuationScorer::add_later_tokens(const std::vector<std::vector<TokenId>>& continuations,
                                          std::span<const size_t> numbers, const DecodeInput& input,
                                          std::vector<double>& scores) const {
  const auto rows = std::ssize(numbers), steps = std::ssize(continuations[numbers.back()]) - 1;
  // What is behind a shorter one's end changes nothing before it, and is not scored.
  at::Tensor ids = at::zeros({rows, steps}, at::kLong), labels = at::full({rows, steps}, -1, at::kLong);
  for (int64_t row = 0; row < rows; ++row) {
    const std::vector<TokenId>& tokens = continuations[numbers[static_cast<size_t>(row)]];
    const int64_t count = std::ssize(tokens) - 1;
    if (count == 0) continue;
    ids[row].narrow(0, 0, count).copy_(ids_of(std::span(tokens).first(static_cast<size_t>(count)))[0]);
    labels[row].narrow(0, 0, count).copy_(ids_of(std::span(tokens).subspan(1))[0]);
  }
  DecodeInput here = input;
  here.ids_BT = ids.to(model_.device());
  const at::Tensor sums = losses(decode(model_, here).flatten(0, 1), labels.flatten()).view({rows, steps}).sum(1);
  for (int64_t row = 0; row < rows; ++row) {
    scores[numbers[static_cast<size_t>(row)]] -= sums.const_data_ptr<double>()[row];
  }
}

std::vector<double> ContinuationScorer::scores(std::span<const TokenId> prompt,
                                               const std::vector<std::vector<TokenId>>& continuations,
                                               const Latents* context, int64_t tokens_at_once) const {
  const at::NoGradGuard no_gradients;
  const auto short_one = [](const std::vector<TokenId>& tokens) { return tokens.empty(); };
  require(!prompt.empty() && std::none_of(continuations.begin(), continuations.end(), short_one),
          "a prompt and continuations of at least one token are needed, found none");
  const auto T = std::ssize(prompt), count = std::ssize(continuations);
  KeyValueCache cache = make_cache(model_.decoder.stack, 1, T);
  const at::Tensor hidden_D = decode(
      model_, {.ids_BT = ids_of(prompt).to(model_.device()), .context = context, .cache = &cache, .last = 1})[0][0];
  std::vector<TokenId> firsts;
  for (const std::vector<TokenId>& tokens : continuations) firsts.push_back(tokens.front());
  const at::Tensor first = losses(hidden_D.expand({count, hidden_D.size(0)}).contiguous(), ids_of(firsts)[0]);
  std::vector<double> scores(continuations.size());
  for (int64_t i = 0; i < count; ++i) scores[static_cast<size_t>(i)] = -first.const_data_ptr<double>()[i];

  std::vector<size_t> order(continuations.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return continuations[a].size() < continuations[b].size(); });
  std::erase_if(order, [&](size_t i) { return continuations[i].size() == 1; });
  if (order.empty()) return scores;
  const int64_t more = std::ssize(continuations[order.back()]) - 1;
  const int64_t rows = std::clamp<int64_t>(tokens_at_once / (T + more), 1, std::ssize(order));
  const KeyValueCache shared = in_rows(cache, model_, rows, more);
  for (int64_t begin = 0; begin < std::ssize(order); begin += rows) {
    const int64_t some = std::min(rows, std::ssize(order) - begin);
    KeyValueCache here = first_rows(shared, some);
    add_later_tokens(continuations, std::span(order).subspan(static_cast<size_t>(begin), static_cast<size_t>(some)),
                     {.context = context, .cache = &here}, scores);
  }
  return scores;
}

}  // namespace cepe
