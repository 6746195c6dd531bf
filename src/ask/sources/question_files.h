// Files of questions with the passages that answer them, and their passages as one collection.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace cepe {

struct AskPassage {
  std::string title;  // may be empty
  std::string text;
};

struct AskQuestion {
  std::string question;
  std::vector<std::string> answers;  // at least one; the first is the shortest that a gold passage holds, if any does
  std::vector<size_t> gold;          // indices of passages, at least one
};

struct AskQuestionFile {
  std::filesystem::path path;
  double share = 1;
  std::vector<AskQuestion> questions;
  std::vector<AskPassage> passages;
};

// Which lines or questions of a file are read.
enum class AskPart {
  training,   // HotpotQA: _id (hexadecimal) not divisible by five; others: all
  measuring,  // HotpotQA: _id divisible by five; others: all
};

// "PATH", "PATH;lines=odd;share=2": a file and what is taken of it. lines: odd or even, of line numbers from 1, for
// .jsonl. A relative path is taken from `directory`. Forms, told apart by their content:
//
//   .json    {"data": [{"paragraphs": [{"context", "qas"}]}]}                 SQuAD 1.1 and 2.0
//            [{"_id", "question", "answer", "context", "supporting_facts"}]   HotpotQA
//            [{"context", "question", "answer"}]                              a flat list
//   .jsonl   {"question", "answers", "ctxs": [{"title", "text"}]}             DPR, Lost in the Middle
//            {"question", "answers", "documents": [text, {"title", "text"}]}  plain
//
// Questions without an answer are left out. Error naming the file and the place where a part is missing or of another
// kind than it should be.
AskQuestionFile read_question_file(const std::string& entry, const std::filesystem::path& directory, AskPart part);

}  // namespace cepe
