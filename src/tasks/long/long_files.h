// Files of long texts with questions about them, in the forms in which they are given out.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tasks/long/long_texts.h"

namespace cepe {

struct LongTexts {
  // One for each score that the file's questions have; of LongBench for each "dataset" and score.
  std::vector<LongSet> sets;
  // A sentence for each record and question that was left out: the file, the line or place, and what is wrong.
  std::vector<std::string> faults;
};

// Reads .json, .jsonl (.ndjson) and either as .zst or .gz. A file named .json may hold one JSON value or an object a
// line.
//
//   form          what it looks like                                                     scored by
//   leval         {"input", "instructions": [...], "outputs": [...], "evaluation"}       f1, rouge, choice, number
//   longbench     {"input", "context", "answers": [...], "dataset"?, "all_classes"?}     its eval.py, by data set
//   longbench-v2  {"_id", "question", "choice_A" ... "choice_D", "answer", "context"}    choice
//   zeroscrolls   {"id", "pid", "input", "output", "document_start_index", ...}          by file or folder
//   qasper        {ID: {"title", "abstract", "full_text", "qas"}}, or a paper a line     f1
//   narrativeqa   {"document": {"text"}, "question": {"text"}, "answers": [{"text"}]}    f1
//   quality       {"article", "questions": [{"question", "options", "gold_label"}]}      choice
//   govreport     {"report" or "document", "summary"}                                    rouge
//   plain         {"document" or "context", "question", "answers" or "answer",           choice with options, else f1,
//                  "options"?, "metric"?}                                                or its metric
//
// Records and questions that are wrong are left out, and the others read. Error where the file cannot be read, has no
// form that is known, is one JSON value that breaks off, or holds no question that can be asked: it tells the first
// fault. `metric`: instead of the form's own.
LongTexts read_long_texts(const std::filesystem::path& path, LongForm form = LongForm::automatic,
                          LongMetric metric = LongMetric::automatic);

}  // namespace cepe
