#include "generate/records/answer_records.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/error.h"
#include "base/report.h"
#include "context/encode_context.h"
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
        contexts_(opened, records, states_of(options)),
        expander_(opened, options.expand),
        end_tokens_(end_tokens(opened)),
        capacity_(needed_capacity(opened)),
        engine_(opened.model, *opened.tokenizer, with_capacity()) {}

  AnsweredRecords run() {
    const double started = seconds_now();
    size_t next = 0;
    while (given_ < records_.size()) {
      while (at_work_ < options_.engine.sequences && next < records_.size()) submit(next++);
      step();
      give();
    }
    done_.encoded_tokens += contexts_.encoded_tokens();
    done_.seconds = seconds_now() - started;
    return done_;
  }

 private:
  static ContextStates states_of(const AnswerRecordsOptions& options) {
    if (options.expand.encodes_late()) return ContextStates::none;
    return options.int8 ? ContextStates::int8 : ContextStates::stored;
  }

  // A slot that no record fills is memory for nothing.
  int64_t needed_capacity(const OpenedModel& opened) const {
    if (options_.engine.capacity > 0) return options_.engine.capacity;
    const int64_t window = decoder_window(opened.model.config.decoder);
    // Texts between chunks, and tokens that come out otherwise where a chunk is read as text, take a few more.
    constexpr int64_t kBesideChunk = 16;
    const int64_t chunk = context_chunk_length(opened.model.config) + kBesideChunk;
    const int64_t expanded = std::min(window, options_.expand.chunks) * chunk;
    int64_t capacity = 0;
    for (size_t i = 0; i < records_.size(); ++i) {
      const int64_t prompt = static_cast<int64_t>(prompts_[i].tokens.size()) + expanded;
      const int64_t whole = records_[i].max_tokens < window - prompt ? prompt + records_[i].max_tokens : window;
      capacity = std::max(capacity, whole);
    }
    return capacity;
  }

  EngineOptions with_capacity() const {
    EngineOptions engine = options_.engine;
    engine.sequences = std::min(engine.sequences, static_cast<int64_t>(records_.size()));
    engine.capacity = capacity_;
    return engine;
  }

  // The record's prompt, with chunks of its context where the options ask for them.
  ExpandedPrompt prompt_of(size_t i, const std::shared_ptr<const Context>& context) {
    if (!options_.expand.any()) return {prompts_[i].tokens, {}, context};
    const PromptRecord& record = records_[i];
    return expander_.expand(context, {record.prompt,
                                      [&](const std::string& text) {
                                        return options_.builder->prompt(record.prompt, record.system, text).tokens;
                                      },
                                      capacity_ - std::min(record.max_tokens, capacity_ / 2)});
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
    RecordAnswer answer;
    try {
      const std::shared_ptr<const Context> context = contexts_.take(i);
      ExpandedPrompt prompt = prompt_of(i, context);
      answer.prompt_tokens = static_cast<int64_t>(prompt.tokens.size());
      answer.context_tokens = context ? encoder_tokens(*context) : 0;
      answer.expanded = std::move(prompt.chunks);
      answer.read_tokens = prompt.context ? encoder_tokens(*prompt.context) : 0;
      if (options_.expand.encodes_late()) done_.encoded_tokens += answer.read_tokens;
      Request request{.prompt = std::move(prompt.tokens),
                      .context = prompt.context,
                      .max_tokens = record.max_tokens,
                      .sampling = record.sampling,
                      .end_tokens = end_tokens_,
                      .stop = record.stop,
                      .continues_prompt = !prompts_[i].templated};
      if (prompts_[i].one_line) end_at_line_break(request);
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
  Expander expander_;
  std::vector<TokenId> end_tokens_;
  const int64_t capacity_;  // of a slot
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
