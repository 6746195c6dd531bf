// Recall: what a model finds again in a long text.
//
// RULER's thirteen tasks (Hsieh et al. 2024, arXiv 2404.06654), generated on the model's own tokenizer at any length,
// with RULER's wording, numbers and scores; and two whose place in the text is chosen: "needle", a needle in essays,
// and "kv", a value of a JSON object by its key (Liu et al. 2023, "Lost in the middle", arXiv 2307.03172).
//
//   RecallData -> RecallKind (recall_kinds.h): a text of so many units -> most_units_within (fit.h) -> Example
//
// The text stands in the encoder, in the decoder, or in both, which gives otherwise equal examples. docs/eval.md says
// what differs from RULER's own generator.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tasks/recall_data.h"
#include "tasks/task.h"

namespace cepe {

// Who reads the text.
enum class Placement {
  encoder,  // all of it through the encoder; the decoder reads the question
  decoder,  // all of it in the decoder's window, before the question
  split,    // the first part through the encoder, the last part in the decoder's window
};
const char* placement_name(Placement placement);  // "encoder", "decoder", "split"
// Error naming the option where there is no such placement.
Placement placement_from_name(std::string_view name, std::string_view option);

struct RecallOptions {
  std::vector<std::string> tasks;         // of recall_task_names(); empty: all that the data allows
  std::vector<int64_t> lengths = {4096};  // tokens: the text with its question, in the decoder's form, and the answer
  std::vector<int64_t> depths = {0, 25, 50, 75, 100};  // percent of the text before what is asked; needle and kv
  std::vector<Placement> placements = {Placement::encoder};
  int64_t examples = 20;   // for each length, depth and placement
  int64_t max_tokens = 0;  // of an answer; 0: the task's own
  uint64_t seed = 1;
  int64_t decoder_window = 0;  // tokens: where a length does not fit, its examples with placement decoder are left out
  // Of the prompt that the decoder would read. Thread-safe.
  std::function<int64_t(const Question&)> count_tokens;
};

struct RecallTasks {
  std::vector<Task> tasks;
  std::vector<std::string> notes;  // a sentence for everything that was left out, and why
};

// niah_single_1 ... qa_2, needle, kv.
const std::vector<std::string>& recall_task_names();

// The tasks that were asked for, or all that the data allows. Examples have the tags task, length, placement and, where
// it is chosen, depth; examples of different placements and otherwise equal tags have the same text. Split: the decoder
// reads the last half of the text, or half of what question and answer leave of its window where that is less. Error on
// an unknown task, a task that was asked for and whose data is missing, an empty list, or a number out of its range.
RecallTasks recall_tasks(std::shared_ptr<const RecallData> data, const RecallOptions& options);

}  // namespace cepe
