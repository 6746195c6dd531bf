// What an engine is asked for, and what it gives back.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "context/context.h"
#include "generate/answer.h"
#include "ops/step/sample.h"

namespace cepe {

// How sequences read their contexts (model/cost_model.h).
struct ContextReading {
  // cached: a context's keys and values are kept, whatever that takes. automatic: they are where the cost model finds
  // that faster for the tokens to be written and they fit in the budget. absorbed, materialised: they are not.
  CrossAttentionForm form = CrossAttentionForm::automatic;
  int64_t memory_budget = 4'000'000'000;  // bytes that kept keys and values of all contexts may take
  // On a CPU, the type in which they are kept: kChar is 8 bits (ops/context/context_attention.h); nothing: the model's.
  std::optional<at::ScalarType> kept = std::nullopt;
  // On a CPU written tokens read of kept keys and values the blocks with this share of attention, 0 < share <= 1,
  // chosen anew after so many tokens (context/sparse_reading.h); 1: all of them.
  double read_share = 1;
  int64_t read_again = 32;
  bool exclusive_device = false;  // no other process uses the device (DecodeStepOptions)
};

// A complete answer.
struct Generation : AnswerResult {
  double waited_seconds = 0;       // from submit() until its prompt began to be read
  double first_token_seconds = 0;  // from then on: reading the prompt and choosing the first token; 0: none was
  double seconds = 0;              // from the beginning of the prompt to the end
  // How the prompt read the context, and what is kept for the tokens that follow; absorbed where there is no context.
  CrossAttentionChoice context_choice;
  // Of kept keys and values, what written tokens read as a mean (SparseReading::mean_share()).
  double read_share = 1;
  // Tokens chosen after the first (an end token counts) a second after the first; 0 when there was only one.
  double tokens_per_second = 0;
};

// A prompt to be answered. Callbacks are called by the thread that calls Engine::step(), and may call submit() and
// cancel(), but not step().
struct Request {
  std::vector<TokenId> prompt;
  // Null or without tokens: a plain decoder. Requests with the same object share its latents, its kept keys and values,
  // and where they stand side by side in the batch one pass over the latents.
  std::shared_ptr<const Context> context;
  int64_t max_tokens = 256;
  SamplerOptions sampling;
  std::vector<TokenId> end_tokens;
  std::vector<std::string> stop;  // stop strings; see StopFilter
  LeadingSpace leading = LeadingSpace::kept;
  bool continues_prompt = false;  // the text goes on from the prompt's: a leading space is part of it
  // -1: none. n >= 0: of each chosen token, and of the n most probable beside it.
  int64_t log_probabilities = -1;
  // Text as it is made: whole UTF-8 characters; what might be the beginning of a stop string waits. What it throws ends
  // this sequence as failed, with the exception's text as the error. May be empty.
  std::function<void(std::string_view)> on_text;
  // Called once when the sequence has ended, whatever the reason; its slot and its context are free by then. What it
  // throws comes out of step(), after the others' on_end were called. May be empty.
  std::function<void(const Generation&)> on_end;
};

using SequenceId = int64_t;

}  // namespace cepe
