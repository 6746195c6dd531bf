// The questions that samples are made of, with a collection of passages to put beside the right ones.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "ask/random.h"
#include "ask/sources/question_files.h"
#include "ask/sources/shingles.h"
#include "text/bm25.h"

namespace cepe {

class QuestionPool {
 public:
  static constexpr size_t kValidationPart = 40;  // one group of questions in so many is for validation alone

  // Takes the files' passages and questions over; passages of the same text are one, whatever the file. Left out and
  // counted: passages that share more than `max_shared` shingles with the refused texts, questions that share any, and
  // questions that lost a gold passage. Questions on the same first gold passage are on the same side, training or
  // validation; questions for training that need a gold passage of validation as well are left out, too.
  QuestionPool(std::vector<AskQuestionFile> files, const ShingleSet& refused, int64_t max_shared);

  bool has(bool validation) const;
  // Questions on the same gold passages, in random order, of a file drawn by its share.
  std::vector<const AskQuestion*> draw(AskRandom& random, bool validation) const;
  const std::vector<Passage>& passages() const { return passages_; }
  // The passages, by number, that may be drawn: gold ones of validation's questions for validation alone.
  const std::vector<size_t>& drawable(bool validation) const { return validation ? validation_ : training_; }
  bool may_stand(size_t passage, bool validation) const { return validation || !kept_[passage]; }
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
    std::vector<Group> training, validation;  // all are in training until they are split
  };
  void add(AskQuestionFile file, const ShingleSet& refused, int64_t max_shared);
  void split();

  std::vector<Passage> passages_;
  std::unordered_map<std::string, size_t> numbers_;  // of passages, by their text
  std::vector<bool> kept_;                           // for validation, by passage
  std::vector<size_t> training_, validation_;        // passages
  std::vector<File> files_;
  Bm25Index index_;
  int64_t questions_ = 0, refused_passages_ = 0, refused_questions_ = 0;
};

}  // namespace cepe
