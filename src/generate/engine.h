// Many requests written together by one model (continuous batching): sequences come and go while others write, each
// with a prompt, a context and sampling options of its own.
//
//   Engine engine(model, tokenizer, {.sequences = 16, .capacity = 4096});
//   engine.submit({.prompt = tokens, .context = context, .on_text = show, .on_end = done});   // from any thread
//   while (engine.step()) {}                                                                  // by one thread
//
// A step() does, in this order:
//   1. takes what submit() and cancel() left; cancelled sequences end.
//   2. reads prompts, at most EngineOptions::prompt_tokens_a_step tokens, in the order in which the requests were
//      submitted: one prompt at a time, in pieces where it is longer, while a slot is free. A prompt that was read has
//      its first token chosen.
//   3. writes one token for each sequence whose prompt was read, all in one decoding step (generate/step_buckets.h).
//      Where the model has no such steps (can_step()) or none that are fast in slots so large, and for a lone sequence
//      where they do not pay (step_pays()), each token is a decode() of its own.
//   4. calls on_end of what has ended.
// So nobody is overtaken in the queue, a long prompt delays those behind it, and those who write wait for at most one
// piece of a prompt a token. Each sequence gets what it would get alone, but for rounding: products of other batch
// sizes may add up in another order. A prompt is read at once where pieces would change the result: RopeKind::dynamic
// beyond the original window.
//
// A damaged logit (NaN, +infinity), and too little memory for a context's keys and values, end their sequence as
// failed, and no other.
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "generate/contexts_at_work.h"
#include "generate/request.h"
#include "generate/step_buckets.h"
#include "generate/token_choice.h"

namespace cepe {

struct EngineOptions {
  int64_t sequences = 16;  // slots: sequences at work together
  // Tokens of prompt and answer that a slot holds; 0: the decoder's window. The key-value cache takes memory for
  // sequences * capacity tokens, at once.
  int64_t capacity = 0;
  int64_t prompt_tokens_a_step = 512;  // read in one step(), so that those who write are not held up
  ContextReading reading;
};

// What an engine is doing.
struct EngineCounts {
  int64_t waiting = 0, reading = 0, writing = 0;  // sequences
  int64_t contexts = 0;                           // different ones that sequences at work read
  int64_t kept_bytes = 0;                         // of these contexts' keys and values
  int64_t prompt_tokens = 0, tokens = 0;          // read, and chosen, since the engine was made
};

struct Sequence;

class Engine {
 public:
  // Both must outlive it. Throws Error for options out of range.
  Engine(const Cepe& model, const Tokenizer& tokenizer, const EngineOptions& options);
  // Sequences that have not ended end without a call of on_end.
  ~Engine();
  Engine(const Engine&) = delete;

  // Any thread; does not wait for a step. Throws Error on a request that can never run: a prompt without tokens, with
  // tokens outside the vocabulary or without room for an answer, a context of another width or device, options out of
  // range.
  SequenceId submit(Request request);
  // Any thread. The next step() ends the sequence; its text stays as it is. Unknown and ended ids are ignored.
  void cancel(SequenceId id);

  // -> whether there was anything to do. One thread at a time, not from a callback. Throws what the device, or on_end,
  // throws. After an error of the device all sequences at work have ended as failed, those that wait stay, and the
  // engine can be used again as far as the device can.
  bool step();

  EngineCounts counts() const;  // any thread; as of the last step()

 private:
  using Owned = std::unique_ptr<Sequence>;

  void check(const Request& request) const;
  void check_context(const Request& request) const;
  bool take_inbox();
  bool drop(const std::set<SequenceId>& cancelled);
  bool read_prompts();
  bool start_reading();
  bool take_context(Sequence& sequence);
  int64_t read_piece(int64_t most);
  bool write_tokens();
  void write_by_step();
  at::Tensor decode_tokens(Sequence& sequence, int64_t slot, std::span<const TokenId> tokens) const;
  bool steps_now() const;
  std::vector<StepContext> step_contexts();
  void choose(int64_t first, const at::Tensor& logits_NV, const at::Tensor& stepped_N = {});
  void leave(int64_t place);
  void end(Owned sequence);
  void fail_all(const std::string& error);
  void call_on_end();
  void publish();

  const Cepe& model_;
  const Tokenizer& tokenizer_;
  EngineOptions options_;
  int64_t vocabulary_;            // tokens that may be chosen
  bool steps_, steps_pay_alone_;  // whether decoding steps can be taken, and for a lone sequence
  KeyValueCache cache_;
  SlotSamplers samplers_;
  ContextsAtWork contexts_;
  std::unique_ptr<StepBuckets> buckets_;  // made with the first decoding step
  std::vector<at::Tensor> step_queries_;  // of the last decoding step, where contexts are read sparsely

  std::deque<Owned> waiting_;
  Owned reading_;               // whose prompt is being read
  std::vector<Owned> writing_;  // each in the slot of its index
  std::vector<Owned> ended_;    // whose on_end is to be called

  mutable std::mutex mutex_;  // of what follows
  std::vector<Owned> arrived_;
  std::set<SequenceId> cancelled_;
  SequenceId last_id_ = 0;
  EngineCounts counts_;
};

// The tokens that prompt and answer may have together in `capacity`, which is at most the decoder's window, after
// checking that there is room for one. Throws Error where there is none.
int64_t room_for(const Cepe& model, int64_t prompt_tokens, int64_t max_tokens, int64_t capacity);

}  // namespace cepe
