// Scores of answers about long texts: which of them a set of questions is judged by.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tasks/scorer.h"

namespace cepe {

enum class LongMetric {
  automatic,       // what the file says, or else the name of its set
  f1,              // em, f1, has_answer (questions/question_scores.h): answers of a few words
  rouge,           // rouge.h, both packages: summaries
  choice,          // accuracy: one or several of the options
  number,          // accuracy: the last number of the answer is the reference's (L-Eval's gsm100)
  classification,  // LongBench's: the class is in the answer, divided by how many classes are
  count,           // LongBench's: the share of the answer's numbers that are the right one
  similarity,      // LongBench's of code: of the first line that is code, by the characters in common
};
// "auto", "f1", "rouge", "choice", "number", "classification", "count", "similarity"
const char* long_metric_name(LongMetric metric);
// Error naming the option where there is no such metric.
LongMetric long_metric_from_name(std::string_view name, std::string_view option);
// The score that plots show: "f1", "rougeL", "accuracy", ...
const char* main_score_of(LongMetric metric);

// The letters that an answer chooses, sorted, such as "AC"; empty where there is none. "The correct answer is (C)", as
// LongBench v2 asks for it, wherever that stands; else the letters that the answer begins with: "(C) because", "A, C
// and D", "ABD", but not "And" and "A dog". `letters` are those that can be chosen.
std::string chosen_letters(std::string_view answer, std::string_view letters);

struct LongScoring {
  LongMetric metric = LongMetric::f1;
  bool stem = false;                 // of rouge1, rouge2, rougeL
  std::vector<std::string> classes;  // of classification: all there are
};
// Of several references the best counts. Of choice a reference is the right letters, sorted, or a word that the answer
// begins with ("True"). Classification, count and similarity are those of LongBench's metrics.py (Bai
// et al. 2023, arXiv 2308.14508). Of count a reference is a number, or has one: "Paragraph 7".
Scorer long_scorer(const LongScoring& scoring);

}  // namespace cepe
