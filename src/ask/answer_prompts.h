// Prompts whose answers become training samples: answer distillation (docs/ask.md). The decoder is asked once with the
// passage in its own window, by `cepe generate --prompts`; what it answers is learnt with the passage in the encoder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace cepe {

struct AnswerPromptsOptions {
  std::string instruction;  // put before the passages, with an empty line between; may be empty
};
struct AnswerPromptsCounts {
  int64_t prompts = 0;
  int64_t without_passage = 0;  // questions that no passage is known to answer, or that have no answer: left out
};

// Reads question files ("PATH;lines=odd", question_files.h; of HotpotQA the part for training) and writes a line for
// each question with an answer and a gold passage:
//
//   {"id": {"question": ..., "passages": [{"title", "text"}, ...], "instruction": ...}, "prompt": ...}
//
// The prompt is the instruction, the gold passages and the question, with empty lines between. `cepe generate` gives
// the id back with the answer, so that its file is all that `cepe data ask` needs (QuestionForm::answered). The file
// appears when it is whole. Error as read_questions(), where an entry has a share, and where there is no prompt.
AnswerPromptsCounts write_answer_prompts(const std::vector<std::string>& files, const std::filesystem::path& out,
                                         const AnswerPromptsOptions& options = {});

}  // namespace cepe
