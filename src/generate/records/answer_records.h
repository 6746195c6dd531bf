// Answers to many prompts by one engine: several are written together, and the answers come in the order of the
// prompts.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "generate/engine.h"
#include "generate/expand.h"
#include "generate/prompt.h"
#include "generate/records/prompt_records.h"

namespace cepe {

// The prompts' tokens; all are checked before anything is computed. Throws Error naming the record's line where a
// prompt cannot be made or leaves no room for an answer in the decoder's window, and where a record has a context and
// the model no encoder.
std::vector<Prompt> build_prompts(const OpenedModel& opened, const PromptBuilder& builder,
                                  const std::vector<PromptRecord>& records);

struct RecordAnswer {
  std::string error;      // one sentence; empty: the prompt was answered
  Generation generation;  // where it was
  int64_t prompt_tokens = 0, context_tokens = 0;
  std::vector<ChunkPlace> expanded;  // chunks of the context that the prompt has as text
  int64_t read_tokens = 0;           // of the context: fewer with ExpandOptions::top
};

struct AnswerRecordsOptions {
  EngineOptions engine;                    // capacity 0: what the longest prompt and its answer need
  bool int8 = false;                       // latents
  ExpandOptions expand;                    // of prompts with a context
  const PromptBuilder* builder = nullptr;  // that made the prompts; needed where chunks are to be read again
  // In the order of the records, as soon as an answer and all before it are there. What it throws ends the work.
  std::function<void(size_t record, const RecordAnswer& answer)> on_answer;
  std::function<void()> on_end;  // an answer is there, in any order; may be empty
};

// What was done.
struct AnsweredRecords {
  int64_t failed = 0;          // records whose answer is an error
  int64_t encoded_tokens = 0;  // of contexts, each document once, or what each prompt reads (ExpandOptions::top)
  int64_t prompt_tokens = 0, generated_tokens = 0;
  double seconds = 0;  // in all
};

// Answers all records. Contexts are encoded shortly before the first prompt that reads them and are let go after the
// last (record_contexts.h). A record whose context cannot be read, or whose writing fails, gets an error for an answer,
// and the others go on. Answers that wait for an earlier one are held in memory.
AnsweredRecords answer_records(const OpenedModel& opened, const std::vector<PromptRecord>& records,
                               const std::vector<Prompt>& prompts, const AnswerRecordsOptions& options);

}  // namespace cepe
