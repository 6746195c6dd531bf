// How likely continuations are after a prompt: what options are ranked by.
#pragma once

#include <span>
#include <vector>

#include "model/cepe.h"
#include "text/tokenizer/tokenizer.h"

namespace cepe {

// A prompt, and what the decoder reads beside it; null or empty: nothing.
struct ScoredPrompt {
  std::span<const TokenId> tokens;
  const Latents* context = nullptr;
};

// Scores continuations by a model, which must outlive it. It holds the model's scoring_head()
// (eval/continuation_losses.h).
class ContinuationScorer {
 public:
  explicit ContinuationScorer(const Cepe& model);

  // log p (nats) of each continuation's tokens together after the prompt, the decoder reading the context; null or
  // empty: it reads none. The prompt is decoded once, and its keys and values are shared. At most `tokens_at_once`
  // tokens of keys and values are held for continuations that are scored together, or one continuation's. No gradients.
  // Error where the prompt or a continuation has no token.
  std::vector<double> scores(std::span<const TokenId> prompt, const std::vector<std::vector<TokenId>>& continuations,
                             const Latents* context, int64_t tokens_at_once = 8192) const;

  // The same of several prompts, which are decoded together: those of like lengths, and with contexts of like lengths,
  // padded to the longest, at most `rows` and `tokens_at_once` tokens of them. But for rounding the scores are those of
  // each alone; they depend on which prompts come together. Scores in the prompts' order.
  std::vector<std::vector<double>> scores_of_all(std::span<const ScoredPrompt> prompts,
                                                 const std::vector<std::vector<TokenId>>& continuations, int64_t rows,
                                                 int64_t tokens_at_once = 8192) const;

 private:
  // Of the prompt that was read: the state of its last token, its keys and values, of batch 1.
  struct ReadPrompt {
    at::Tensor hidden_D;
    KeyValueCache cache;
    const Latents* context;
  };
  std::vector<double> scores_after(const ReadPrompt& prompt, const std::vector<std::vector<TokenId>>& continuations,
                                   int64_t tokens_at_once) const;
  std::vector<ReadPrompt> read_together(std::span<const ScoredPrompt> prompts) const;
  // Adds log p of the tokens after the first, of the continuations of these numbers, of which the last is the longest.
  void add_later_tokens(const std::vector<std::vector<TokenId>>& continuations, std::span<const size_t> numbers,
                        const DecodeInput& input, std::vector<double>& scores) const;
  at::Tensor losses(const at::Tensor& hidden_ND, const at::Tensor& labels_N) const;  // -> (N) float64 on the host

  const Cepe& model_;
  at::Tensor head_VD_;
};

}  // namespace cepe
