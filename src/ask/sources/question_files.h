// Files of questions (tasks/questions/question_files.h) as samples are made of them: those that a passage answers.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tasks/questions/question_files.h"

namespace cepe {

struct AskQuestion {
  std::string question;
  std::vector<std::string> answers;  // at least one; the first is the shortest that a gold passage holds, if any does
  std::vector<size_t> gold;          // indices of passages, at least one
};

struct AskQuestionFile {
  double share = 1;
  std::vector<AskQuestion> questions;
  std::vector<Passage> passages;
};

// "PATH", "PATH;lines=odd;share=2": a file and what is taken of it. A relative path is taken from `directory`.
// Questions without an answer or a passage that answers are left out. Error as read_questions(), where a setting is
// unknown, or where no question is left.
AskQuestionFile read_question_file(const std::string& entry, const std::filesystem::path& directory,
                                   QuestionChoice::HotpotQa part);

}  // namespace cepe
