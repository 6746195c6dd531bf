// Runs tasks: examples through the encoder and the engine, answers through the scorers, records onto the disk.
//
//   Task (tasks/task.h) -> documents to a Context, prompt to a Request -> Engine -> Scorer -> samples.jsonl
//
// Examples, their tokens and their chunks are made ahead by a pool of threads while the engine answers; they come in
// their order. They are worked on in groups of a fixed size, so that what is computed together, on which rounding
// depends, does not change with where a run was interrupted: a run that was killed and goes on leaves the same
// samples.jsonl, bit for bit, as one that was not.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "eval/results.h"
#include "generate/expand.h"
#include "generate/prompt.h"
#include "model/checkpoint/checkpoint.h"
#include "speed/meter.h"
#include "tasks/given_answers.h"
#include "tasks/task.h"

namespace cepe {

struct TaskRunOptions {
  std::filesystem::path directory;  // of samples.jsonl and run.json; made where it does not exist
  nlohmann::json configuration;     // an object: all that the answers depend on; recorded in run.json
  PromptForm form = PromptForm::task;
  int64_t batch = 4;     // examples at work together; their contexts are in memory together
  ExpandOptions expand;  // of examples with documents: each is read again with chunks of them before the question
  // Not null: the model answers nothing. Another program's answers, by the examples' ids, are cut where an answer ends,
  // at stop strings and max_tokens, and scored.
  std::shared_ptr<const GivenAnswers> answers = nullptr;
  std::function<void(int64_t done, int64_t total)> progress;  // examples; may be empty
};

struct TaskRun {
  std::vector<ScoredExample> examples;  // all of them, in order, those of an earlier run included
  int64_t resumed = 0;                  // examples whose records were there already
  int64_t unmatched_answers = 0;        // given ones to no example of the run
  Cost cost;  // of this run; of given answers theirs to these examples: a sum, the largest memory
};

// Makes the tokens that the decoder reads of a question: in the forms task and question the text after the begin token
// where the tokenizer adds one, special tokens in it plain text; as a chat the template around the message, in which
// the names of special tokens are parsed, and the answer's prefix. Immutable: threads may share one.
class QuestionPrompts {
 public:
  // Error where the model has no tokenizer, and on a chat without a template.
  QuestionPrompts(const OpenedModel& opened, PromptForm form);
  std::vector<TokenId> tokens(const Question& question) const;
  // The same with a text before the decoder's part of the text; tokens() where it is empty.
  std::vector<TokenId> tokens(const Question& question, const std::string& text_before) const;
  // tokens() of the question, followed by an answer.
  std::vector<TokenId> answered(const Question& question, const std::string& answer) const;

 private:
  PromptForm form_;
  PromptBuilder builder_;
};

// Answers all examples of the tasks, greedily, or by the likeliest of an example's options, and appends a record for
// each to samples.jsonl (docs/eval.md). An answer ends at answer_stops() (tasks/given_answers.h). Goes on where an
// earlier run with the same configuration ended. Error where the directory holds a run of another configuration, an
// example does not fit the decoder's window, needs an encoder that the model lacks, or fails; and where answers are
// given, before anything is written, an example has none, has one to another input, or wants an option chosen.
TaskRun run_tasks(const OpenedModel& opened, std::span<const Task> tasks, const TaskRunOptions& options);

}  // namespace cepe
