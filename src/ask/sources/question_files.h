// Files of questions (tasks/questions/question_files.h) as samples are made of them: those that a passage answers.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "tasks/questions/question_files.h"

namespace cepe {

struct AskQuestion {
  std::string question;
  std::vector<std::string> answers;  // at least one; the first stands in a gold passage, or is yes or no
  std::vector<size_t> gold;          // indices of passages, at least one
  bool by_model = false;             // the answer is what a model wrote (QuestionForm::answered)
  std::string instruction = {};      // what the model was told before passages and question; may be empty
};

struct AskQuestionFile {
  double share = 1;
  std::vector<AskQuestion> questions;
  std::vector<Passage> passages;
};

// "PATH", "PATH;lines=odd;share=2": a file and what is taken of it. Error where a setting is unknown.
struct QuestionEntry {
  std::string path;
  QuestionChoice choice;
  std::optional<double> share;  // as it is given; without: 1
};
QuestionEntry parse_question_entry(const std::string& text);

// Reads an entry's file; a relative path is taken from `directory`. Questions without an answer or a gold passage are
// left out, and those whose answers stand in no gold passage (AnswerFinder), unless the answer is yes or no. Answers
// that a model wrote (QuestionForm::answered) are taken as they are.
// Error as read_questions(), and where no question is left.
AskQuestionFile read_question_file(const std::string& entry, const std::filesystem::path& directory,
                                   QuestionChoice::HotpotQa part);

}  // namespace cepe
