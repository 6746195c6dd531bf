// The contexts that an engine's sequences read: one entry for all that hold the same Context object, with its kept keys
// and values, within one budget.
#pragma once

#include <map>
#include <memory>

#include "generate/request.h"
#include "model/cepe.h"

namespace cepe {

struct ContextAtWork {
  std::shared_ptr<const Context> context;
  Latents latents;  // the context's, with its keys and values where they are kept
};

// What a sequence is about to do with its context.
struct ContextUse {
  int64_t prompt_tokens = 0;  // read now
  int64_t steps = 0;          // tokens that may follow one by one
};

// Not thread-safe. The model must outlive it.
class ContextsAtWork {
 public:
  // slots: of the engine. On a CUDA device the steps of several read contexts through a table in the absorbed form
  // (DecodeStepOptions::contexts_change), so that keys and values are kept there only where the cached form is asked
  // for.
  ContextsAtWork(const Cepe& model, const ContextReading& reading, int64_t slots);

  // The entry of a context that has tokens, made where there is none; it goes with the last who holds it. Keeps keys
  // and values where the reading says so, and tells in `choice` what was chosen.
  std::shared_ptr<ContextAtWork> take(const std::shared_ptr<const Context>& context, const ContextUse& use,
                                      CrossAttentionChoice& choice);

  int64_t count() const;       // of contexts
  int64_t kept_bytes() const;  // of their keys and values

 private:
  CrossAttentionChoice chosen(const Latents& latents, const ContextUse& use) const;

  const Cepe& model_;
  ContextReading reading_;
  std::map<const Context*, std::weak_ptr<ContextAtWork>> entries_;
};

}  // namespace cepe
