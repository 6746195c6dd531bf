// Sets of questions with their answers and passages. question_files.h reads them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cepe {

struct Passage {
  std::string title;  // shown before the text; may be empty
  std::string text;
  std::string article;  // what it is a part of: passages of one article are alike
};
// The passage as a model reads it: the title, where there is one, on a line of its own, and the text.
std::string passage_text(const Passage& passage);

struct OpenQuestion {
  std::string id;                    // unique in its set
  std::string question;              // one line
  std::vector<std::string> answers;  // right ones, each different; empty: it cannot be answered
  std::vector<size_t> passages;      // its own, in the file's order: indices into QuestionSet::passages
  std::vector<size_t> gold;          // those of them that answer it
  std::string cluster;  // questions of one cluster vary together: the article of the first gold passage, else itself
  std::string instruction = {};  // of a model's own answer: what it was told before passages and question
};

enum class QuestionForm { automatic, dpr, squad, hotpotqa, triviaqa, popqa, nq_open, flashrag, plain, answered };
// "auto", "dpr", "squad", ..., "nq-open", "flashrag", "plain", "answered"
const char* question_form_name(QuestionForm form);
// Error naming the option where there is no such form.
QuestionForm question_form_from_name(std::string_view name, std::string_view option);

struct QuestionSet {
  std::string name;  // the file's, without .zst and .json or .jsonl
  QuestionForm form = QuestionForm::automatic;
  std::vector<Passage> passages;  // of all questions, each different
  std::vector<OpenQuestion> questions;
};

}  // namespace cepe
