// Sets of questions about long texts. long_files.h reads them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tasks/long/long_scores.h"

namespace cepe {

struct LongDocument {
  std::string name, text;
};

struct LongQuestion {
  std::string id;        // unique in its set
  size_t document = 0;   // an index into LongSet::documents
  std::string question;  // what is asked, with the options where there are any
  std::vector<std::string> references;
  // What can be chosen, "A", "B" or "True", "False"; empty: the answer is written. References are of these then: one,
  // or several letters in one text, "AC", where several are right together.
  std::vector<std::string> options = {};
  // The file's own words before and after the document (ZeroSCROLLS); both empty: it has none.
  std::string before = {}, after = {};
};

enum class LongForm {
  automatic,
  leval,
  longbench,
  longbench_v2,
  zeroscrolls,
  qasper,
  narrativeqa,
  quality,
  govreport,
  plain
};
// "auto", "leval", "longbench", "longbench-v2", "zeroscrolls", "qasper", "narrativeqa", "quality", "govreport", "plain"
const char* long_form_name(LongForm form);
// Error naming the option where there is no such form.
LongForm long_form_from_name(std::string_view name, std::string_view option);

struct LongSet {
  // LongBench: the data set's; else the file's without .zst and .json or .jsonl. With " (choice)" or another metric
  // behind it where the file has several.
  std::string name;
  LongForm form = LongForm::automatic;
  LongMetric metric = LongMetric::f1;
  int64_t max_tokens = 64;  // of an answer, where nothing else is asked for
  bool first_line = true;   // an answer ends at its first line break; not where f1 has references of several lines
  std::vector<std::string> classes;     // of classification
  std::vector<LongDocument> documents;  // each different
  std::vector<LongQuestion> questions;
};

}  // namespace cepe
