// Making one text: an engine (generate/engine.h) with one sequence.
//
//   Latents latents = encode_context(model, chunks).latents;               // context/encode_context.h, once
//   Generation made = generate({model, tokenizer, prompt, &latents}, {.on_text = show});
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "generate/request.h"
#include "model/cepe.h"

namespace cepe {

struct GenerateInput {
  const Cepe& model;
  const Tokenizer& tokenizer;
  std::span<const TokenId> prompt;
  const Latents* context = nullptr;  // null or without tokens: a plain decoder
};

// As Request has them.
struct GenerateOptions {
  int64_t max_tokens = 256;
  SamplerOptions sampling;
  std::vector<TokenId> end_tokens;
  std::vector<std::string> stop;
  LeadingSpace leading = LeadingSpace::kept;
  ContextReading context;
  bool continues_prompt = false;
  int64_t log_probabilities = -1;
  std::function<void(std::string_view)> on_text;
};

// The prompt is read at once, and the key-value cache holds exactly prompt and max_tokens. Throws Error when max_tokens
// is not positive, an option of the sampling is out of range, the prompt has no tokens or leaves no room in the
// decoder's window (decoder_window()), or a logit is damaged; and what on_text throws.
Generation generate(const GenerateInput& input, const GenerateOptions& options);

}  // namespace cepe
