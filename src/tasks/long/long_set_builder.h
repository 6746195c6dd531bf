// Sets of questions about long texts while a file is read: documents are kept once, ids are checked.
#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tasks/long/long_texts.h"

namespace cepe {

// What a form or a data set says of its questions.
struct LongKind {
  LongMetric metric = LongMetric::f1;
  int64_t max_tokens = 0;  // 0: the metric's own
  bool first_line = true;  // an answer ends at its first line break
};
// Tokens of an answer and where it ends, as the metric has it.
LongKind long_kind(LongMetric metric);

class LongSetBuilder {
 public:
  LongSetBuilder(LongForm form, LongMetric metric) : form_(form), metric_(metric) {}

  // Adds a question about the document, to the set of the name and of the metric: the kind's, or the builder's where
  // that is not automatic. No id: `place` is one. References that are several letters are sorted, as chosen_letters()
  // gives them. Error naming `where` on a blank document, question or reference, none of the last, an id that comes
  // twice in the set, options that lack a reference, and what could only score 0: a choice without options, number and
  // count of references without a digit, classification of references that are no class.
  struct Asked {
    std::string set, document_name, document;
    LongKind kind;
    LongQuestion question;  // its document is set here
    std::vector<std::string> classes = {};
  };
  void add(Asked asked, const std::string& place, const std::string& where);

  // The sets, in the order of their first questions; those of one name are called "NAME (METRIC)" each.
  std::vector<LongSet> finish();

 private:
  struct Known {
    size_t place = 0;
    std::map<std::string, size_t> documents;  // by hash
    std::set<std::string> ids;
  };
  LongForm form_;
  LongMetric metric_;
  std::vector<LongSet> sets_;
  std::map<std::pair<std::string, LongMetric>, Known> known_;  // by name and metric
};

// The letters of the options that a question lists, in its text: "A. ", "A) ", "A: " or "(A) " at the beginning of
// lines, from A on; empty where it lists fewer than two.
std::vector<std::string> listed_options(std::string_view question);
// The question with its options below it, "A. ...", a line each.
std::string with_options(std::string question, const std::vector<std::string>& options);
constexpr size_t kMostOptions = 26;
// "A", "B", ... for so many options, at most kMostOptions.
std::vector<std::string> option_letters(size_t count);

}  // namespace cepe
