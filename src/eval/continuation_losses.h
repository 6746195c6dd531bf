// How likely a model finds several continuations of one prompt.
#pragma once

#include <span>
#include <vector>

#include "context/context.h"
#include "model/cepe.h"
#include "text/tokenizer/tokenizer.h"

namespace cepe {

// The head that continuations are scored with, (V, D) in at least float32: in bfloat16 the logits of two tokens are
// often the same number, and of options that tie the first would win. Hidden states are cast to its type.
at::Tensor scoring_head(const Cepe& model);

// The losses of the continuations' tokens, each continuation's summed, in nats: minus the logarithm of its probability
// after the prompt, while the context (null: none) is read. The prompt and each continuation have at least one token.
// Continuations that differ in their last token alone share one pass of the decoder.
std::vector<double> continuation_losses(const Cepe& model, const Context* context, std::span<const TokenId> prompt,
                                        std::span<const std::vector<TokenId>> continuations);

}  // namespace cepe
