// Files of labelled texts, in the forms in which sets of classification are given away.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tasks/icl/label_tasks.h"

namespace cepe {

struct LabelledText {
  std::string text;   // one line
  std::string label;  // as it is shown: "positive"
};

// CLINC150's one file has its parts in it: those that are asked ("test") and those that are shown ("train").
enum class LabelledPart { asked, shown };

// Reads a file, plain, as .zst or as .gz. Its form is found by name and content:
//
//   .jsonl, .ndjson  {"text": ..., "label": ...} a line; a .json file may be so, or an array of them. The text may be
//                    called "sentence", "content", "question", "query" or "utterance", the label "label_text",
//                    "coarse_label", "intent" or "category"; "title" stands before the text
//   .json            CLINC150's: {"train": [[text, label], ...], "test": [...]}
//   .csv             a first line that names columns as above (banking77), or none and the columns class, from 1, title
//                    and text (AG News, DBpedia)
//   .tsv             a first line that names columns, which tabs part (GLUE's SST-2)
//   others           LABEL TEXT a line: a number (SST-2, SST-5, MR, TREC as sent-conv has them) or TREC's CLASS:kind
//
// A label is a name or a number; task.labels say what numbers mean. Where there are such, a number in "label" counts
// before all other names of the label: "label_text" may have words of its own. Line breaks and tabs in texts become
// spaces, and spaces around texts and labels are dropped. Error naming file and line where something is missing, empty,
// of another type or not UTF-8, where a label is not among the task's, and where there is no text.
std::vector<LabelledText> read_labelled_texts(const std::filesystem::path& path, const LabelTask& task,
                                              LabelledPart part);

}  // namespace cepe
