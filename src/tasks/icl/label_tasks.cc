#include "tasks/icl/label_tasks.h"

#include <algorithm>

#include "base/error.h"
#include "base/nearest.h"

namespace cepe {
namespace {

std::vector<LabelTask> make_tasks() {
  std::vector<LabelTask> tasks;
  tasks.push_back({"sst2", "Sentence", "Sentiment", {"negative", "positive"}});
  tasks.push_back({"sst5", "Sentence", "Sentiment", {"terrible", "bad", "okay", "good", "great"}});
  tasks.push_back({"mr", "Review", "Sentiment", {"negative", "positive"}});
  LabelTask trec{"trec", "Question", "Type"};
  trec.labels = {"abbreviation", "entity", "description", "human", "location", "numeric"};
  trec.line_labels = {"description", "entity", "abbreviation", "human", "location", "numeric"};
  trec.codes = {{"ABBR", "abbreviation"}, {"ENTY", "entity"},  {"DESC", "description"},
                {"HUM", "human"},         {"LOC", "location"}, {"NUM", "numeric"}};
  tasks.push_back(std::move(trec));
  tasks.push_back({"ag_news", "Article", "Topic", {"World", "Sports", "Business", "Sci/Tech"}});
  LabelTask dbpedia{"dbpedia", "Input", "Type"};
  dbpedia.labels = {"Company", "School",  "Artist", "Athlete", "Politics", "Transportation", "Building",
                    "Nature",  "Village", "Animal", "Plant",   "Album",    "Film",           "Book"};
  dbpedia.title = false;
  tasks.push_back(std::move(dbpedia));
  tasks.push_back({.name = "banking77", .text_word = "Query", .label_word = "Intent", .spaces = true});
  tasks.push_back({.name = "clinc150", .text_word = "Utterance", .label_word = "Intent", .spaces = true});
  tasks.push_back({.name = "plain"});
  return tasks;
}

}  // namespace

const std::vector<LabelTask>& label_tasks() {
  static const std::vector<LabelTask> tasks = make_tasks();
  return tasks;
}

LabelTask label_task_from_name(std::string_view name, std::string_view option) {
  std::vector<std::string> known;
  std::string list;
  for (const LabelTask& task : label_tasks()) {
    if (task.name == name) return task;
    known.push_back(task.name);
    list += (list.empty() ? "" : ", ") + task.name;
  }
  fail("{}: expected one of {}, found \"{}\"{}", option, list, name, did_you_mean(std::string(name), known));
}

std::string label_prompt(const LabelTask& task, std::string_view text) {
  return fmt::format("{}: {}\n{}:", task.text_word, text, task.label_word);
}

std::string label_continuation(std::string_view label) { return fmt::format(" {}", label); }

}  // namespace cepe
