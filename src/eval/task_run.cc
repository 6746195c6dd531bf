#include "eval/task_run.h"

#include <algorithm>
#include <bit>
#include <optional>
#include <set>
#include <thread>

#include "base/error.h"
#include "base/file.h"
#include "base/json_text.h"
#include "context/encode_context.h"
#include "eval/continuation_losses.h"
#include "eval/made_ahead.h"
#include "eval/samples.h"
#include "generate/engine.h"
#include "text/chunker.h"

namespace cepe {
namespace {

using nlohmann::json;

// One example of a run.
struct Prepared {
  // Made ahead.
  const Task* task;
  Example example;
  std::vector<TokenId> prompt;
  std::vector<TextChunk> chunks;  // of the documents
  std::string documents;          // a hash of them
  std::string input;              // a hash of all that the model reads
  // By the engine.
  std::shared_ptr<const Context> context = nullptr;  // what is read of the documents; null: there are none
  int64_t context_tokens = 0;                        // of the documents
  std::vector<ChunkPlace> expanded = {};
  Generation made = {};
  bool given = false;                      // made by another program
  std::vector<double> option_losses = {};  // where the example has options: nats
};

// Which example: the index counts through all tasks.
struct Place {
  const Task* task;
  int64_t index;
};
Place place_of(std::span<const Task> tasks, int64_t index) {
  for (const Task& task : tasks) {
    if (index < task.examples) return {&task, index};
    index -= task.examples;
  }
  fail("there is no example {}", index);
}

int64_t count_examples(std::span<const Task> tasks) {
  int64_t count = 0;
  for (const Task& task : tasks) count += task.examples;
  return count;
}

json record_of(const Prepared& work) {
  json sources = json::array();
  for (const ContextDocument& document : work.example.documents) sources.push_back(document.name);
  json record = {{"id", work.example.id},
                 {"tags", work.example.tags},
                 {"cluster", work.example.cluster},
                 {"input", work.input},
                 {"prediction", work.made.text},
                 {"references", work.example.references},
                 {"scores", work.task->score(work.made.text, work.example.references)},
                 {"sources", sources},
                 {"stop_reason", stop_reason_name(work.made.reason)},
                 {"context_tokens", work.context_tokens},
                 {"prompt_tokens", work.prompt.size()},
                 {"answer_tokens", work.made.tokens.size()}};
  if (const int64_t read = work.context ? encoder_tokens(*work.context) : 0; read < work.context_tokens)
    record["read_tokens"] = read;
  if (work.given) record["stop_reason"] = "given";
  if (!work.option_losses.empty()) {
    record["stop_reason"] = "chosen";
    record["options"] = work.example.options;
    record["option_losses"] = work.option_losses;
  }
  for (const ChunkPlace& place : work.expanded) {
    record["expanded"].push_back(
        {{"source", place.source.document}, {"first_token", place.source.first_token}, {"tokens", place.tokens}});
  }
  return record;
}

LeadingSpace leading_space(const Example& example) {
  return example.drop_leading_space ? LeadingSpace::dropped : LeadingSpace::kept;
}

ScoredExample scored_example(const json& record, const std::string& where) {
  try {
    return {record.at("tags"), record.at("cluster"), record.at("scores")};
  } catch (const json::exception&) {
    fail("{}: the record of \"{}\" lacks its tags, cluster or scores", where, record.value("id", json()).dump());
  }
}

class Runner {
 public:
  Runner(const OpenedModel& opened, std::span<const Task> tasks, const TaskRunOptions& options)
      : opened_(opened),
        tasks_(tasks),
        options_(options),
        samples_(options.directory / "samples.jsonl"),
        total_(count_examples(tasks)),
        prompts_(opened, options.form),
        expander_(opened, options.expand),
        end_tokens_(end_tokens(opened)) {}

  int64_t done() const { return static_cast<int64_t>(samples_.records().size()); }
  const std::vector<json>& records() const { return samples_.records(); }

  void run() {
    require(done() <= total_, "{}: expected at most {} records, found {}", file(), total_, done());
    if (done() > 0) check_record(prepare(done() - 1), done() - 1);
    if (options_.progress) options_.progress(done(), total_);
    // Groups that are done altogether are passed over.
    const int64_t begin = done() < total_ ? done() / options_.batch * options_.batch : total_;
    MadeAhead<Prepared> ahead(begin, total_, [this](int64_t index) { return prepare(index); }, ahead_options());
    for (int64_t first = begin; first < total_; first += options_.batch) {
      const int64_t end = std::min(first + options_.batch, total_);
      std::vector<Prepared> group;
      for (int64_t index = first; index < end; ++index) group.push_back(ahead.take());
      run_group(first, group);
    }
  }

 private:
  std::string file() const { return (options_.directory / "samples.jsonl").string(); }

  AheadOptions ahead_options() const {
    const int64_t threads = std::clamp<int64_t>(std::thread::hardware_concurrency(), 1, 16);
    return {threads, options_.batch + threads};
  }

  // Called from several threads.
  Prepared prepare(int64_t index) const {
    const Place place = place_of(tasks_, index);
    Prepared work{place.task, place.task->example(place.index)};
    work.prompt = prompts_.tokens(work.example.question);
    work.documents = documents_hash(work.example);
    work.input = input_hash(work.example, options_.form, work.documents);
    if (opened_.model.encoder) work.chunks = chunks_of(work.example.documents);
    return work;
  }

  std::vector<TextChunk> chunks_of(const std::vector<ContextDocument>& documents) const {
    std::vector<TextChunk> chunks;
    for (const ContextDocument& document : documents) {
      const std::vector<TokenId> tokens = opened_.tokenizer->encode(document.text, {.parse_special_tokens = false});
      append_chunks(tokens, document.name, context_chunk_length(opened_.model.config), chunks);
    }
    return chunks;
  }

  // The record of an earlier run is of the same example.
  void check_record(const Prepared& work, int64_t index) const {
    const json& record = samples_.records()[static_cast<size_t>(index)];
    const bool same =
        record.value("id", json()) == json(work.example.id) && record.value("input", json()) == json(work.input);
    require(same, "{}:{}: expected the record of {}, found another example's: the data or the tokenizer has changed",
            file(), index + 1, work.example.id);
  }

  // The whole group is worked on, though some of its records may be there.
  void run_group(int64_t first, std::vector<Prepared>& group) {
    if (options_.answers) {
      for (Prepared& work : group) take_answer(work);
    } else {
      encode(group);
      expand(group);
      answer(group);
    }
    for (int64_t index = first; index < first + std::ssize(group); ++index) {
      Prepared& work = group[static_cast<size_t>(index - first)];
      if (index < done()) {
        check_record(work, index);
        continue;
      }
      require(work.made.reason != StopReason::failed, "{}: {}", work.example.id, work.made.error);
      samples_.append(record_of(work));
      if (options_.progress) options_.progress(done(), total_);
    }
  }

  // Equal documents are encoded once, as long as they follow each other within a group or from one to the next.
  void encode(std::vector<Prepared>& group) {
    std::set<std::string> wanted;
    for (const Prepared& work : group) wanted.insert(work.documents);
    std::erase_if(contexts_, [&](const auto& entry) { return !wanted.contains(entry.first); });
    for (Prepared& work : group) {
      if (work.example.documents.empty()) continue;
      require(opened_.model.encoder.has_value(), "{}: the model has no encoder, so that it cannot read documents",
              work.example.id);
      std::shared_ptr<const Context>& context = contexts_[work.documents];
      if (!context) {
        context = std::make_shared<const Context>(
            options_.expand.encodes_late() ? unencoded(work.chunks) : encode_context(opened_.model, work.chunks));
      }
      work.context = context;
      work.context_tokens = encoder_tokens(*context);
    }
  }

  // Chunks of the documents that the question is about, before it as text.
  void expand(std::vector<Prepared>& group) {
    const int64_t window = decoder_window(opened_.model.config.decoder);
    for (Prepared& work : group) {
      if (!options_.expand.any()) break;
      const auto make = [&](const std::string& text) { return prompts_.tokens(work.example.question, text); };
      ExpandedPrompt expanded =
          expander_.expand(work.context, {work.example.question.question, make, window - work.example.max_tokens});
      work.prompt = std::move(expanded.tokens);
      work.expanded = std::move(expanded.chunks);
      work.context = std::move(expanded.context);
    }
  }

  void answer(std::vector<Prepared>& group) {
    const bool written =
        std::any_of(group.begin(), group.end(), [](const Prepared& w) { return w.example.options.empty(); });
    if (written) write(group);
    for (Prepared& work : group) {
      if (!work.example.options.empty()) choose(work);
    }
  }

  // The likeliest option. What follows the prompt is found by its tokens with each option: where a token of them spans
  // the end of the prompt, it is scored as a whole.
  void choose(Prepared& work) {
    std::vector<std::vector<TokenId>> answered;
    const std::vector<TokenId> alone = prompts_.tokens(work.example.question);
    size_t common = alone.size();
    for (const std::string& option : work.example.options) {
      answered.push_back(prompts_.answered(work.example.question, option));
      const auto [differs, ignored] =
          std::mismatch(alone.begin(), alone.end(), answered.back().begin(), answered.back().end());
      common = std::min(common, static_cast<size_t>(differs - alone.begin()));
    }
    for (std::vector<TokenId>& tokens : answered) {
      tokens.erase(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(common));
    }
    const std::span<const TokenId> prompt(work.prompt);
    const size_t before = prompt.size() - (alone.size() - common);
    const int64_t window = decoder_window(opened_.model.config.decoder);
    for (const std::vector<TokenId>& tokens : answered) {
      require(static_cast<int64_t>(before + tokens.size()) <= window,
              "{}: {} tokens of prompt and {} of an option exceed the decoder's window of {}", work.example.id, before,
              tokens.size(), window);
    }
    work.option_losses = continuation_losses(opened_.model, work.context.get(), prompt.first(before), answered);
    const auto best = std::min_element(work.option_losses.begin(), work.option_losses.end());
    work.made.text = work.example.options[static_cast<size_t>(best - work.option_losses.begin())];
  }

  // Another program's answer, ended at what stops the engine's and at as many of the model's tokens as it may have.
  void take_answer(Prepared& work) const {
    const GivenAnswer& answer = options_.answers->by_id.at(work.example.id);  // check_given_answers() has found it
    StopFilter filter(answer_stops(work.example, options_.form), leading_space(work.example));
    work.made.text = filter.push(answer.text);
    if (!filter.stopped()) work.made.text += filter.finish();
    work.made.tokens = opened_.tokenizer->encode(work.made.text, {.parse_special_tokens = false});
    if (std::ssize(work.made.tokens) > work.example.max_tokens) {
      work.made.tokens.resize(static_cast<size_t>(work.example.max_tokens));
      work.made.text = opened_.tokenizer->decode(work.made.tokens);
    }
    work.given = true;
  }

  void write(std::vector<Prepared>& group) {
    Engine& engine = engine_for(group);
    for (Prepared& work : group) {
      if (!work.example.options.empty()) continue;
      Request request{.prompt = work.prompt,
                      .context = work.context,
                      .max_tokens = work.example.max_tokens,
                      .end_tokens = end_tokens_,
                      .stop = answer_stops(work.example, options_.form),
                      .leading = leading_space(work.example),
                      .continues_prompt = options_.form != PromptForm::chat,
                      .on_end = [&work](const Generation& made) { work.made = made; }};
      engine.submit(std::move(request));
    }
    while (engine.step()) {
    }
  }

  // An engine of the group's size, whose slots hold the longest prompt and answer. Slots are powers of two, so that one
  // engine serves many groups; a function of the group alone, as everything that answers might depend on.
  Engine& engine_for(const std::vector<Prepared>& group) {
    const int64_t window = decoder_window(opened_.model.config.decoder);
    int64_t needed = 1;
    for (const Prepared& work : group) {
      if (!work.example.options.empty()) continue;
      const int64_t tokens = static_cast<int64_t>(work.prompt.size()) + work.example.max_tokens;
      require(tokens <= window, "{}: {} tokens of prompt and {} of the answer exceed the decoder's window of {}",
              work.example.id, work.prompt.size(), work.example.max_tokens, window);
      needed = std::max(needed, tokens);
    }
    const int64_t slot =
        std::min(window, static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(std::max<int64_t>(needed, 1024)))));
    if (!engine_ || slot != slot_) {
      engine_.reset();
      engine_.emplace(opened_.model, *opened_.tokenizer, EngineOptions{.sequences = options_.batch, .capacity = slot});
      slot_ = slot;
    }
    return *engine_;
  }

  const OpenedModel& opened_;
  std::span<const Task> tasks_;
  const TaskRunOptions& options_;
  SampleFile samples_;
  int64_t total_;
  QuestionPrompts prompts_;
  Expander expander_;
  std::vector<TokenId> end_tokens_;
  std::map<std::string, std::shared_ptr<const Context>> contexts_;  // of the group, by documents_hash
  std::optional<Engine> engine_;
  int64_t slot_ = 0;
};

}  // namespace

QuestionPrompts::QuestionPrompts(const OpenedModel& opened, PromptForm form)
    : form_(form), builder_(opened, {.none = form != PromptForm::chat}) {
  require(form != PromptForm::chat || builder_.has_template(),
          "{}: the model has no chat template: choose the form task or question", opened.path.string());
}

std::vector<TokenId> QuestionPrompts::tokens(const Question& question) const {
  const PromptText text = prompt_text(question, form_);
  if (form_ != PromptForm::chat) {
    return builder_.tokenizer().encode(text.message, {.add_special_tokens = true, .parse_special_tokens = false});
  }
  std::vector<TokenId> tokens = builder_.prompt(text.message).tokens;
  const std::vector<TokenId> prefix = builder_.tokenizer().encode(text.answer_prefix, {.parse_special_tokens = false});
  tokens.insert(tokens.end(), prefix.begin(), prefix.end());
  return tokens;
}

std::vector<TokenId> QuestionPrompts::answered(const Question& question, const std::string& answer) const {
  const PromptText text = prompt_text(question, form_);
  const auto spaced = [&](const std::string& before) {
    const bool divided = before.empty() || before.back() == ' ' || before.back() == '\n';
    return (divided ? "" : " ") + answer;
  };
  if (form_ != PromptForm::chat) {
    return builder_.tokenizer().encode(text.message + spaced(text.message),
                                       {.add_special_tokens = true, .parse_special_tokens = false});
  }
  std::vector<TokenId> tokens = builder_.prompt(text.message).tokens;
  const std::vector<TokenId> prefix =
      builder_.tokenizer().encode(text.answer_prefix + spaced(text.answer_prefix), {.parse_special_tokens = false});
  tokens.insert(tokens.end(), prefix.begin(), prefix.end());
  return tokens;
}

std::vector<TokenId> QuestionPrompts::tokens(const Question& question, const std::string& text_before) const {
  if (text_before.empty()) return tokens(question);
  Question changed = question;
  // The form question puts an empty line after the text itself.
  const bool divided = form_ == PromptForm::question && question.text.empty();
  changed.text = text_before + (divided ? "" : "\n\n") + question.text;
  return tokens(changed);
}

TaskRun run_tasks(const OpenedModel& opened, std::span<const Task> tasks, const TaskRunOptions& options) {
  require(options.batch >= 1, "batch: expected 1 or more, found {}", options.batch);
  GivenTotals given;
  if (options.answers) given = check_given_answers(*options.answers, tasks, options.form);
  check_run_configuration(options.directory, options.configuration);
  Meter meter(opened.model.device());
  meter.start();
  Runner runner(opened, tasks, options);
  TaskRun run;
  run.resumed = runner.done();
  run.unmatched_answers = given.unmatched;
  runner.run();
  run.cost = meter.stop();
  if (options.answers) run.cost = {given.seconds, static_cast<uint64_t>(given.most_memory)};
  for (const json& record : runner.records()) {
    run.examples.push_back(scored_example(record, (options.directory / "samples.jsonl").string()));
  }
  return run;
}

}  // namespace cepe
