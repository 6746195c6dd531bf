// Making text: prefill, then one token after another through the key-value cache.
//
//   Latents latents = encode_context(model, chunks).latents;               // context/encode_context.h, once
//   Generation made = generate({model, tokenizer, prompt, &latents}, {.on_text = show});
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "generate/sampler.h"
#include "model/decode_step.h"

namespace cepe {

// How a sequence reads its context (model/cost_model.h).
struct ContextReading {
  // cached: the context's keys and values are kept, whatever that takes. automatic: they are where the cost model finds
  // that faster for the tokens to be written and they fit in the budget. absorbed, materialised: they are not.
  CrossAttentionForm form = CrossAttentionForm::automatic;
  int64_t memory_budget = 4'000'000'000;  // bytes that kept keys and values may take
};

// One sequence that a model reads and goes on with. The model must outlive it.
class DecodingSession {
 public:
  // capacity: the tokens that the key-value cache is to hold, prompt and generated; memory is taken at once. The
  // context's keys and values are kept, where that is chosen, on the first append(), which counts on one token a call
  // after it.
  DecodingSession(const Cepe& model, const Latents* context, int64_t capacity, const ContextReading& reading = {});

  // Reads tokens after those read so far -> the logits of the next one (V), float32, valid until the next call.
  // Throws Error when there are none, one is not of the vocabulary, or the cache would overflow. A single token after
  // others takes a step (model/decode_step.h) where that is faster.
  std::span<const float> append(std::span<const TokenId> tokens);

  // Before the first next(): how it chooses, among tokens below `vocabulary`, and those that the repetition penalty
  // counts from the beginning. Throws Error for options out of range.
  void sample_with(const SamplerOptions& options, int64_t vocabulary, std::span<const TokenId> seen);
  // Reads tokens as append() does -> the one chosen to follow. On a CUDA device it is chosen there, by a step's own
  // graph where steps are taken, and 16 bytes come to the host instead of the logits. Throws Error as append(), and
  // when a logit is NaN or +infinity, or none is finite.
  TokenId next(std::span<const TokenId> tokens);

  int64_t length() const { return cache_.length; }  // tokens read
  int64_t capacity() const { return cache_.capacity; }
  // What the first append() chose, for its tokens and for those to be written; absorbed where there is no context.
  const CrossAttentionChoice& context_choice() const { return choice_; }

 private:
  void choose_form(int64_t tokens);
  at::Tensor forward(std::span<const TokenId> tokens);  // -> logits, V of them
  at::Tensor step(int64_t id);
  at::Tensor read(const std::vector<int64_t>& ids);

  const Cepe& model_;
  Latents context_;  // shares the given one's memory
  ContextReading reading_;
  CrossAttentionChoice choice_;
  KeyValueCache cache_;
  std::unique_ptr<DecodeStep> step_;  // made with the first token that takes one
  at::Tensor logits_V_;
  int64_t vocabulary_ = 0;
  std::unique_ptr<Sampler> sampler_;  // one of the two, when next() is used
  std::unique_ptr<DeviceSampler> device_sampler_;
};

enum class StopReason {
  end_token,    // the model ended its answer; the end token itself is not part of it
  stop_string,  // a stop string came; neither it nor what follows is part of the text
  max_tokens,   // as many tokens as were asked for
  window,       // prompt and generated tokens fill the decoder's window
};
const char* stop_reason_name(StopReason reason);  // "end_token", ...

struct GenerateInput {
  const Cepe& model;
  const Tokenizer& tokenizer;
  std::span<const TokenId> prompt;
  const Latents* context = nullptr;  // null or without tokens: a plain decoder
};

struct GenerateOptions {
  int64_t max_tokens = 256;
  SamplerOptions sampling;
  std::vector<TokenId> end_tokens;
  std::vector<std::string> stop;  // stop strings; see StopFilter
  ContextReading context;
  bool continues_prompt = false;  // the text goes on from the prompt's: a leading space is part of it
  // Called with text as it is made: whole UTF-8 characters; what might be the beginning of a stop string waits.
  std::function<void(std::string_view)> on_text;
};

struct Generation {
  std::vector<TokenId> tokens;  // without the end token
  std::string text;             // all that on_text was given
  StopReason reason = StopReason::max_tokens;
  double first_token_seconds = 0;  // reading the prompt and choosing the first token
  double seconds = 0;              // in all
  // How the context was read (DecodingSession::context_choice).
  CrossAttentionChoice context_choice;
  // Tokens chosen after the first (an end token counts) a second after the first; 0 when there was only one.
  double tokens_per_second = 0;
};

// Throws Error when max_tokens is not positive, an option of the sampling is out of range, the prompt has no tokens or
// leaves no room in the decoder's window (decoder_window()).
Generation generate(const GenerateInput& input, const GenerateOptions& options);

}  // namespace cepe
