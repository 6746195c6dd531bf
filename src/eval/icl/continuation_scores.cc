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

int64_t tokens_of(const Latents* context) { return context == nullptr ? 0 : context->tokens(); }

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

// Contexts side by side, the shorter ones padded behind; undefined states where the first has none.
Latents padded(std::span<const ScoredPrompt> prompts) {
  if (tokens_of(prompts[0].context) == 0) return {};
  int64_t S = 0, same = 0;
  for (const ScoredPrompt& prompt : prompts) S = std::max(S, prompt.context->tokens());
  const at::Tensor& first = prompts[0].context->states_BSE;
  const auto B = std::ssize(prompts);
  Latents all{at::zeros({B, S, first.size(2)}, first.options()), at::zeros({B, S}, first.options().dtype(at::kBool))};
  for (int64_t row = 0; row < B; ++row) {
    const Latents& context = *prompts[static_cast<size_t>(row)].context;
    require(!context.scales_BS.defined() && !context.mask_BS.defined() && context.states_BSE.size(0) == 1,
            "prompts are scored together with contexts of batch 1 in the model's type, without padding");
    all.states_BSE[row].narrow(0, 0, context.tokens()).copy_(context.states_BSE[0]);
    all.mask_BS[row].narrow(0, 0, context.tokens()).fill_(true);
    same += context.tokens() == S;
  }
  if (same == B) all.mask_BS = at::Tensor();
  return all;
}

// Numbers of prompts that are read together: like lengths of prompts and contexts, so that little is padding.
std::vector<std::vector<size_t>> batches_of(std::span<const ScoredPrompt> prompts, int64_t rows, int64_t tokens) {
  std::vector<size_t> order(prompts.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto lengths = [&](size_t i) { return std::pair(prompts[i].tokens.size(), tokens_of(prompts[i].context)); };
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    const bool a_plain = lengths(a).second == 0, b_plain = lengths(b).second == 0;
    return a_plain != b_plain ? a_plain : lengths(a) < lengths(b);
  });
  std::vector<std::vector<size_t>> batches;
  int64_t least = 0, longest = 0;  // tokens of the batch's contexts
  for (const size_t i : order) {
    const auto [T, S] = lengths(i);
    const bool fits = !batches.empty() && std::ssize(batches.back()) < rows &&
                      (std::ssize(batches.back()) + 1) * static_cast<int64_t>(T) <= tokens &&
                      2 * T <= 3 * lengths(batches.back()[0]).first && std::max(longest, S) <= 2 * std::min(least, S);
    if (!fits) batches.emplace_back(), least = longest = S;
    least = std::min(least, S);
    longest = std::max(longest, S);
    batches.back().push_back(i);
  }
  return batches;
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
  const ScoredPrompt one{prompt, context};
  return scores_of_all({&one, 1}, continuations, 1, tokens_at_once)[0];
}

std::vector<std::vector<double>> ContinuationScorer::scores_of_all(
    std::span<const ScoredPrompt> prompts, const std::vector<std::vector<TokenId>>& continuations, int64_t rows,
    int64_t tokens_at_once) const {
  const at::NoGradGuard no_gradients;
  const auto short_one = [](const std::vector<TokenId>& tokens) { return tokens.empty(); };
  const bool whole = std::none_of(prompts.begin(), prompts.end(), [](const auto& one) { return one.tokens.empty(); });
  require(whole && std::none_of(continuations.begin(), continuations.end(), short_one),
          "a prompt and continuations of at least one token are needed, found none");
  std::vector<std::vector<double>> scores(prompts.size());
  for (const std::vector<size_t>& batch : batches_of(prompts, rows, tokens_at_once)) {
    std::vector<ScoredPrompt> together;
    for (const size_t i : batch) together.push_back(prompts[i]);
    const std::vector<ReadPrompt> read = read_together(together);
    for (size_t row = 0; row < batch.size(); ++row) {
      scores[batch[row]] = scores_after(read[row], continuations, tokens_at_once);
    }
  }
  return scores;
}

std::vector<ContinuationScorer::ReadPrompt> ContinuationScorer::read_together(
    std::span<const ScoredPrompt> prompts) const {
  const auto B = std::ssize(prompts);
  int64_t T = 0;
  for (const ScoredPrompt& prompt : prompts) T = std::max(T, std::ssize(prompt.tokens));
  KeyValueCache cache = make_cache(model_.decoder.stack, B, T);
  if (B == 1) {
    DecodeInput input{.ids_BT = ids_of(prompts[0].tokens).to(model_.device()), .context = prompts[0].context};
    input.cache = &cache;
    input.last = 1;
    const at::Tensor hidden_D = decode(model_, input)[0][0];
    return {{hidden_D, std::move(cache), prompts[0].context}};
  }
  // What is behind a shorter prompt's end changes nothing before it: its keys and values are not read again.
  at::Tensor ids = at::zeros({B, T}, at::kLong);
  for (int64_t row = 0; row < B; ++row) {
    const std::span<const TokenId> tokens = prompts[static_cast<size_t>(row)].tokens;
    ids[row].narrow(0, 0, std::ssize(tokens)).copy_(ids_of(tokens)[0]);
  }
  const Latents contexts = padded(prompts);
  const at::Tensor hidden_BTD =
      decode(model_, {.ids_BT = ids.to(model_.device()), .context = &contexts, .cache = &cache});
  std::vector<ReadPrompt> read;
  for (int64_t row = 0; row < B; ++row) {
    const ScoredPrompt& prompt = prompts[static_cast<size_t>(row)];
    const auto length = std::ssize(prompt.tokens);
    KeyValueCache own{.layers = {}, .length = length, .capacity = T};
    for (const LayerCache& layer : cache.layers) {
      own.layers.push_back({layer.k_BSGK.narrow(0, row, 1), layer.v_BSGK.narrow(0, row, 1)});
    }
    read.push_back({hidden_BTD[row][length - 1], std::move(own), prompt.context});
  }
  return read;
}

std::vector<double> ContinuationScorer::scores_after(const ReadPrompt& prompt,
                                                     const std::vector<std::vector<TokenId>>& continuations,
                                                     int64_t tokens_at_once) const {
  const auto count = std::ssize(continuations);
  const int64_t T = prompt.cache.length;
  std::vector<TokenId> firsts;
  for (const std::vector<TokenId>& tokens : continuations) firsts.push_back(tokens.front());
  const at::Tensor first =
      losses(prompt.hidden_D.expand({count, prompt.hidden_D.size(0)}).contiguous(), ids_of(firsts)[0]);
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
  const KeyValueCache shared = in_rows(prompt.cache, model_, rows, more);
  for (int64_t begin = 0; begin < std::ssize(order); begin += rows) {
    const int64_t some = std::min(rows, std::ssize(order) - begin);
    KeyValueCache here = first_rows(shared, some);
    add_later_tokens(continuations, std::span(order).subspan(static_cast<size_t>(begin), static_cast<size_t>(some)),
                     {.context = prompt.context, .cache = &here}, scores);
  }
  return scores;
}

}  // namespace cepe
