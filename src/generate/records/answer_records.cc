#include "generate/records/answer_records.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/error.h"
#include "base/report.h"
#include "generate/records/record_contexts.h"

namespace cepe {
namespace {

class Work {
 public:
  Work(const OpenedModel& opened, const std::vector<PromptRecord>& records, const std::vector<Prompt>& prompts,
       const AnswerRecordsOptions& options)
      : records_(records),
        prompts_(prompts),
        options_(options),
        contexts_(opened, records, options.int8),
        end_tokens_(end_tokens(opened)),
        engine_(opened.model, *opened.tokenizer, with_capacity(opened)) {}

  AnsweredRecords run() {
    const double started = seconds_now();
    size_t next = 0;
    while (given_ < records_.size()) {
      while (at_work_ < options_.engine.sequences && next < records_.size()) submit(next++);
      step();
      give();
    }
    done_.encoded_tokens = contexts_.encoded_tokens();
    done_.seconds = seconds_now() - started;
    return done_;
  }

 private:
  // A slot that no record fills is memory for nothing.
  EngineOptions with_capacity(const OpenedModel& opened) const {
    EngineOptions engine = options_.engine;
    engine.sequences = std::min(engine.sequences, static_cast<int64_t>(records_.size()));
    if (engine.capacity > 0) return engine;
    const int64_t window = decoder_window(opened.model.config.decoder);
    for (size_t i = 0; i < records_.size(); ++i) {
      const int64_t prompt = static_cast<int64_t>(prompts_[i].tokens.size());
      const int64_t whole = records_[i].max_tokens < window - prompt ? prompt + records_[i].max_tokens : window;
      engine.capacity = std::max(engine.capacity, whole);
    }
    return engine;
  }

  // An error of the device has ended those at work, each with its error: the others go on, as long as any end by it.
  void step() {
    const size_t ended = given_ + ended_.size();
    try {
      engine_.step();
    } catch (const std::exception&) {
      if (given_ + ended_.size() == ended) throw;
    }
  }

  void submit(size_t i) {
    const PromptRecord& record = records_[i];
    RecordAnswer answer{.prompt_tokens = static_cast<int64_t>(prompts_[i].tokens.size())};
    try {
      Request request{.prompt = prompts_[i].tokens,
                      .context = contexts_.take(i),
                      .max_tokens = record.max_tokens,
                      .sampling = record.sampling,
                      .end_tokens = end_tokens_,
                      .stop = record.stop,
                      .continues_prompt = !prompts_[i].templated};
      answer.context_tokens = request.context ? request.context->tokens() : 0;
      request.on_end = [this, i, answer](const Generation& made) mutable {
        --at_work_;
        answer.generation = made;
        if (made.reason == StopReason::failed) answer.error = made.error;
        end(i, std::move(answer));
      };
      engine_.submit(std::move(request));
      ++at_work_;
    } catch (const std::exception& error) {  // a file, or too little memory for the context
      answer.error = error.what();
      end(i, std::move(answer));
    }
  }

  void end(size_t i, RecordAnswer answer) {
    if (!answer.error.empty()) ++done_.failed;
    done_.prompt_tokens += answer.error.empty() ? answer.prompt_tokens : 0;
    done_.generated_tokens += static_cast<int64_t>(answer.generation.tokens.size());
    ended_.emplace(i, std::move(answer));
    if (options_.on_end) options_.on_end();
  }

  // Hands over what is next in the order of the records.
  void give() {
    for (auto next = ended_.begin(); next != ended_.end() && next->first == given_; next = ended_.begin(), ++given_) {
      options_.on_answer(given_, next->second);
      ended_.erase(next);
    }
  }

  const std::vector<PromptRecord>& records_;
  const std::vector<Prompt>& prompts_;
  const AnswerRecordsOptions& options_;
  RecordContexts contexts_;
  std::vector<TokenId> end_tokens_;
  Engine engine_;
  int64_t at_work_ = 0;
  size_t given_ = 0;
  std::map<size_t, RecordAnswer> ended_;  // by record; not handed over yet
  AnsweredRecords done_;
};

}  // namespace

std::vector<Prompt> build_prompts(const OpenedModel& opened, const PromptBuilder& builder,
                                  const std::vector<PromptRecord>& records) {
  const int64_t window = decoder_window(opened.model.config.decoder);
  std::vector<Prompt> prompts;
  for (const PromptRecord& record : records) {
    const bool context = !record.context.empty() || !record.context_text.empty();
    require(!context || opened.model.encoder, "{}: a context needs an encoder, and {} is a plain decoder", record.where,
            opened.path.string());
    try {
      prompts.push_back(builder.prompt(record.prompt, record.system));
    } catch (const ChatTemplateError& error) {
      throw ChatTemplateError(record.where + ": " + error.what());
    } catch (const Error& error) {
      fail("{}: {}", record.where, error.what());
    }
    const int64_t tokens = static_cast<int64_t>(prompts.back().tokens.size());
    require(tokens < window,
            "{}: the prompt has {} tokens, which leaves no room for an answer in the decoder's window "
            "of {}: shorten it, or give the longer part as context",
            record.where, tokens, window);
  }
  return prompts;
}

AnsweredRecords answer_records(const OpenedModel& opened, const std::vector<PromptRecord>& records,
                               const std::vector<Prompt>& prompts, const AnswerRecordsOptions& options) {
  return Work(opened, records, prompts, options).run();
}

}  // namespace cepe
