#include "generate/answer.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace cepe {

const char* stop_reason_name(StopReason reason) {
  switch (reason) {
    case StopReason::end_token: return "end_token";
    case StopReason::stop_string: return "stop_string";
    case StopReason::max_tokens: return "max_tokens";
    case StopReason::window: return "window";
    case StopReason::cancelled: return "cancelled";
    case StopReason::failed: return "failed";
  }
  return "unknown";
}

Answer::Answer(const Tokenizer& tokenizer, AnswerOptions options)
    : options_(std::move(options)), decoder_(tokenizer.streaming_decoder()), filter_(options_.stop, options_.leading) {}

// SentencePiece drops a text's first space: only a decoder that has seen the prompt knows that this is no beginning.
void Answer::continue_from(std::span<const TokenId> prompt) {
  for (const TokenId token : prompt) decoder_->push(token);
}

bool Answer::push(TokenId token, std::optional<TokenLogProbabilities> log_probabilities) {
  require(!ended_, "answer: token {} after its end", token);
  const std::vector<TokenId>& ends = options_.end_tokens;
  if (std::find(ends.begin(), ends.end(), token) != ends.end()) return end(StopReason::end_token);
  result_.tokens.push_back(token);
  if (log_probabilities) result_.log_probabilities.push_back(std::move(*log_probabilities));
  show(filter_.push(decoder_->push(token)));
  if (filter_.stopped()) return end(StopReason::stop_string);
  const int64_t count = static_cast<int64_t>(result_.tokens.size());
  if (count < std::min(options_.max_tokens, options_.room)) return true;
  return end(count < options_.max_tokens ? StopReason::window : StopReason::max_tokens);
}

bool Answer::end(StopReason reason) {
  if (reason != StopReason::stop_string) {
    show(filter_.push(decoder_->finish()));
    show(filter_.finish());
    if (filter_.stopped()) reason = StopReason::stop_string;
  }
  result_.reason = reason;
  ended_ = true;
  return false;
}

void Answer::cancel() {
  if (!ended_) result_.reason = StopReason::cancelled;
  ended_ = true;
}

void Answer::fail(std::string error) {
  if (ended_) return;
  result_.reason = StopReason::failed;
  result_.error = std::move(error);
  ended_ = true;
}

void Answer::show(const std::string& text) {
  if (text.empty()) return;
  result_.text += text;
  if (options_.on_text) options_.on_text(text);
}

}  // namespace cepe
