// One request at work in an engine. Internal to it.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "context/sparse_reading.h"
#include "generate/contexts_at_work.h"
#include "generate/request.h"

namespace cepe {

struct Sequence {
  Sequence(Request asked, const Tokenizer& tokenizer, int64_t room)
      : request(std::move(asked)),
        room(room),
        answer(tokenizer,
               {request.max_tokens, room, request.end_tokens, request.stop, request.leading, request.on_text}) {
    if (request.continues_prompt) answer.continue_from(request.prompt);
  }

  int64_t prompt_tokens() const { return static_cast<int64_t>(request.prompt.size()); }
  // Tokens that may be chosen, at most.
  int64_t most_tokens() const { return std::min(request.max_tokens, room); }

  SequenceId id = 0;
  Request request;
  int64_t room;  // tokens that the answer may have for want of space
  Answer answer;
  std::shared_ptr<ContextAtWork> context;  // while it is at work; null: none
  std::optional<SparseReading> sparse;     // of the context, while it writes; nothing: it reads all
  int64_t slot = -1;                       // while its prompt is read; a writing sequence's is its place
  int64_t length = 0;                      // tokens that its slot holds
  TokenId next = 0;                        // the token that was chosen last, which the slot does not hold yet
  int64_t chosen = 0;                      // tokens so far, an end token included
  double submitted = 0, begun = 0;         // seconds_now()
  Generation times;                        // but for what `answer` has
};

}  // namespace cepe
