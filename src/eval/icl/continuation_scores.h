// How likely continuations are after a prompt: what options are ranked by.
#pragma once

#include <span>
#include <vector>

#include "model/cepe.h"
#include "text/tokenizer/tokenizer.h"

namespace cepe {

// log p (nats) of each continuation's tokens together after the prompt, the decoder reading the context; null or empty:
// it reads none. The prompt is decoded once, and its keys and values are shared. At most `tokens_at_once` tokens of
// keys and values are held for continuations that are scored together, or one continuation's. No gradients. Error where
// the prompt or a continuation has no token.
std::vector<double> continuation_scores(const Cepe& model, std::span<const TokenId> prompt,
                                        const std::vector<std::vector<TokenId>>& continuations, const Latents* context,
                                        int64_t tokens_at_once = 8192);

}  // namespace cepe
