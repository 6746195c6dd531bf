// A set of questions while it is read: passages are counted once, ids are checked.
#pragma once

#include <filesystem>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "tasks/questions/questions.h"

namespace cepe {

class QuestionSetBuilder {
 public:
  static constexpr size_t kNoPassage = static_cast<size_t>(-1);

  // faults: QuestionChoice's.
  explicit QuestionSetBuilder(std::vector<std::string>* faults = nullptr) : faults_(faults) {}

  // Calls read(); an Error is a fault where these are gathered. The passages that read() added are dropped with it,
  // unless it added a question: they must not be another question's distractors.
  template <typename Read>
  void guarded(const Read& read) {
    const size_t passages = set_.passages.size(), questions = set_.questions.size();
    try {
      read();
    } catch (const Error& error) {
      if (!faults_) throw;
      faults_->emplace_back(error.what());
      if (set_.questions.size() == questions) drop_passages(passages);
    }
  }
  // -> the passage's index. One with the same title and text is the same passage. Where the text is blank: Error, or
  // kNoPassage and a fault where these are gathered.
  size_t add(Passage passage, const std::string& where);
  // A question's passages and gold are indices or kNoPassage, which is dropped; the cluster is set here. No id: `place`
  // is one, such as "line 3".
  void add(OpenQuestion question, const std::string& place, const std::string& where);
  size_t questions() const { return set_.questions.size(); }
  // Error where there is no question.
  QuestionSet finish(const std::filesystem::path& path, QuestionForm form);

 private:
  void drop_passages(size_t from);

  std::vector<std::string>* faults_;
  QuestionSet set_;
  std::unordered_map<std::string, size_t> indices_;  // by title and text
  std::set<std::string> ids_;
};

}  // namespace cepe
