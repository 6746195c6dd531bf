// A set of questions while it is read: passages are counted once, ids are checked.
#pragma once

#include <filesystem>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "tasks/questions/questions.h"

namespace cepe {

class QuestionSetBuilder {
 public:
  // -> the passage's index. One with the same title and text is the same passage. Error where the text is blank.
  size_t add(Passage passage, const std::string& where);
  // A question's passages and gold are indices; the cluster is set here. No id: `place` is one, such as "line 3".
  void add(OpenQuestion question, const std::string& place, const std::string& where);
  size_t questions() const { return set_.questions.size(); }
  // Error where there is no question.
  QuestionSet finish(const std::filesystem::path& path, QuestionForm form);

 private:
  QuestionSet set_;
  std::unordered_map<std::string, size_t> indices_;  // by title and text
  std::set<std::string> ids_;
};

}  // namespace cepe
