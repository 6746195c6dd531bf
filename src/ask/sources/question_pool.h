// The questions that samples are made of, with a collection of passages to put beside the right ones.
#pragma once

#include <cstdint>
#include <vector>

#include "ask/random.h"
#include "ask/sources/bm25.h"
#include "ask/sources/question_files.h"
#include "ask/sources/shingles.h"

namespace cepe {

class QuestionPool {
 public:
  static constexpr size_t kValidationPart = 40;  // one group of questions in so many is for validation alone

  // Takes the files' passages and questions over. Left out and counted: passages that share more than `max_shared`
  // shingles with the refused texts, questions that share any, and questions that lost a gold passage.
  QuestionPool(std::vector<AskQuestionFile> files, const ShingleSet& refused, int64_t max_shared);

  bool has(bool validation) const;
  // Questions on the same gold passages, in random order, of a file drawn by its share.
  std::vector<const AskQuestion*> draw(AskRandom& random, bool validation) const;
  const std::vector<Passage>& passages() const { return passages_; }
  const Bm25Index& index() const { return index_; }

  int64_t questions() const { return questions_; }
  int64_t refused_passages() const { return refused_passages_; }
  int64_t refused_questions() const { return refused_questions_; }

 private:
  struct Group {
    std::vector<AskQuestion> questions;  // of the same gold passages
  };
  struct File {
    double share = 1;
    std::vector<Group> training, validation;
  };
  void add(AskQuestionFile file, const ShingleSet& refused, int64_t max_shared);

  std::vector<Passage> passages_;
  std::vector<File> files_;
  Bm25Index index_;
  int64_t questions_ = 0, refused_passages_ = 0, refused_questions_ = 0;
};

// Whether the text holds the answer, letters of both cases alike.
bool holds_answer(const std::string& text, const std::string& answer);

}  // namespace cepe
