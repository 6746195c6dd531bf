// What `eval qa` shows of its results: a table of scores by setting, and a plot.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "eval/results.h"

namespace cepe {

struct QuestionReport {
  std::vector<Result> results;        // by task, setting and the setting's parts, each score
  std::vector<Result> by_answerable;  // the same by answerable; only where some questions have no answer
};
QuestionReport report_questions(std::span<const ScoredExample> examples);

// table.md: percent with standard errors; a line for each task and score, a column for each setting.
std::string question_table(const QuestionReport& report);

// plot.svg: F1 over the number of passages, or over the gold passage's place where several places were asked for; a
// line for each task and kind of setting.
void write_question_plot(const QuestionReport& report, const std::filesystem::path& path);

}  // namespace cepe
