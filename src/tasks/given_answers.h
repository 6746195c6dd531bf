// The same examples for other programs, and the answers that they gave.
//
//   Task -> inputs.jsonl -> another program -> a file of answers -> Scorer (eval/task_run.h)
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>

#include "tasks/task.h"

namespace cepe {

// SHA-256 of an example's documents, and of all that the model reads of it, those documents and, where one is to be
// chosen, the options included. Equal ids with equal inputs are the same example, whatever the settings of a run.
std::string documents_hash(const Example& example);
std::string input_hash(const Example& example, PromptForm form, const std::string& documents);

// Writes a line of JSON for each example of the tasks, in order: `id`, `input` (its hash, above), `tags`, `references`,
// `documents` (those of the encoder: `name`, `text`), `form`, `question` (the question alone), `prompt` and
// `answer_prefix` (prompt_text() in this form), `max_tokens`, `stop` (strings that end the answer), `leading_space`
// ("kept", or "dropped": white space before the answer is no part of it and ends it not) and, where one is to be
// chosen, `options`. Error where the file cannot be written; there is none then.
void write_example_inputs(std::span<const Task> tasks, PromptForm form, const std::filesystem::path& file);

// The strings that end the answer of an example: its own; in the form question the next line that begins with
// "Question:" as well, where its own end it at no line break.
std::vector<std::string> answer_stops(const Example& example, PromptForm form);

struct GivenAnswer {
  std::string text;                  // may go on behind a stop string
  std::optional<std::string> input;  // the hash of what was read
  double seconds = 0;                // that it took; 0: not known
  int64_t peak_memory = 0;           // bytes; 0: not known
};

struct GivenAnswers {
  std::string file;
  std::map<std::string, GivenAnswer> by_id;
};
// The answers of a file with a line of JSON for each: `id` of an example and `text`, perhaps `input` as
// write_example_inputs() wrote it, `seconds` and `peak_memory_bytes`. Error naming file and line where one is malformed
// or an id comes twice.
GivenAnswers read_given_answers(const std::filesystem::path& file);

// What check_given_answers() found.
struct GivenTotals {
  double seconds = 0;       // of the answers to examples of the run, a sum
  int64_t most_memory = 0;  // the largest peak of theirs, bytes
  int64_t unmatched = 0;    // answers of the file to no example of the run
};
// Error naming file and id where an example has no answer, where it wants an option chosen by likelihood, and where an
// answer's input is not its example's: another seed, another form or other passages make another example of the same
// id. Makes every example once.
GivenTotals check_given_answers(const GivenAnswers& answers, std::span<const Task> tasks, PromptForm form);

}  // namespace cepe
