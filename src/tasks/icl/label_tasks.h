// Tasks of classification: how a labelled text is worded as a demonstration, and what the labels are called.
//
//   Sentence: a stirring , funny and finally transporting re-imagining of beauty and the beast
//   Sentiment: positive
//
// Words and names are those of CEPE's published evaluation (Yen, Gao, Chen 2024, arXiv 2402.16617), which took them
// from Parallel Context Windows (Ratner et al. 2023, arXiv 2212.10947).
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace cepe {

struct LabelTask {
  std::string name;
  std::string text_word = "Text", label_word = "Label";
  // The names of the numbers 0, 1, ... of a file. Empty: files name their labels, and any name is a label.
  std::vector<std::string> labels = {};
  // Those in files of lines "NUMBER TEXT", where they differ: TREC's are numbered otherwise there. Empty: the same.
  std::vector<std::string> line_labels = {};
  std::map<std::string, std::string> codes = {};  // other spellings of a file, and the label that each is: "HUM"
  bool spaces = false;                            // "_" in a label's name is shown as a space
  bool title = true;                              // a title of the text stands before it
};

// sst2, sst5, mr, trec, ag_news, dbpedia, banking77, clinc150 and plain, in this order. plain is any file that names
// its labels.
const std::vector<LabelTask>& label_tasks();
// Error naming the option where there is no such task.
LabelTask label_task_from_name(std::string_view name, std::string_view option);

// "Sentence: TEXT\nSentiment:", what a label follows.
std::string label_prompt(const LabelTask& task, std::string_view text);
// A space and the label: what the model may go on with.
std::string label_continuation(std::string_view label);

}  // namespace cepe
