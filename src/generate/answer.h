// The answer of one sequence while it is written: tokens to text, where the text ends and why. No tensors here.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "generate/stop_filter.h"
#include "text/tokenizer/tokenizer.h"

namespace cepe {

enum class StopReason {
  end_token,    // the model ended its answer; the end token itself is not part of it
  stop_string,  // a stop string came; neither it nor what follows is part of the text
  max_tokens,   // as many tokens as were asked for
  window,       // prompt and generated tokens fill the decoder's window, or the engine's capacity
  cancelled,    // Engine::cancel()
  failed,       // AnswerResult::error says why
};
const char* stop_reason_name(StopReason reason);  // "end_token", ...

// Natural logarithms of the softmax over the model's vocabulary of the raw logits: before penalties and temperature, in
// float32.
struct TokenLogProbability {
  TokenId token = 0;
  float log_probability = 0;
};
// Of one place of the answer.
struct TokenLogProbabilities {
  TokenLogProbability chosen;
  // Of the tokens that may be chosen, the most probable first; of equal ones any. Where the chosen one is among them it
  // has the same number.
  std::vector<TokenLogProbability> best;
};

struct AnswerResult {
  std::vector<TokenId> tokens;  // without the end token
  std::string text;             // all that on_text was given
  StopReason reason = StopReason::max_tokens;
  std::string error;                                     // one sentence where it failed
  std::vector<TokenLogProbabilities> log_probabilities;  // one for each of `tokens`, where they were asked for
};

struct AnswerOptions {
  int64_t max_tokens = 256;  // as asked for
  int64_t room = 256;        // tokens that fit in the window after the prompt
  std::vector<TokenId> end_tokens;
  std::vector<std::string> stop;  // stop strings; see StopFilter
  LeadingSpace leading = LeadingSpace::kept;
  // Called with text as it is made: whole UTF-8 characters. What might be the beginning of a stop string waits.
  std::function<void(std::string_view)> on_text;
};

// Not thread-safe. The tokenizer must outlive it.
class Answer {
 public:
  // Throws Error on stop strings that StopFilter refuses.
  Answer(const Tokenizer& tokenizer, AnswerOptions options);

  // The text goes on from the prompt's, before the first push(): a leading space is part of it.
  void continue_from(std::span<const TokenId> prompt);

  // The next token that was chosen -> whether the answer goes on. Throws what on_text throws; the answer has not ended
  // then, and takes cancel() or fail() alone.
  bool push(TokenId token, std::optional<TokenLogProbabilities> log_probabilities = std::nullopt);
  // They end the answer where it is; text that waits is not shown. Without effect on one that has ended.
  void cancel();
  void fail(std::string error);

  bool ended() const { return ended_; }
  const AnswerResult& result() const { return result_; }

 private:
  bool end(StopReason reason);
  void show(const std::string& text);

  AnswerOptions options_;
  std::unique_ptr<StreamingDecoder> decoder_;
  StopFilter filter_;
  AnswerResult result_;
  bool ended_ = false;
};

}  // namespace cepe
