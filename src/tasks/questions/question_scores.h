// Scores of answers to questions: exact match, F1, and whether an answer is contained.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tasks/scorer.h"

namespace cepe {

bool splits_words(char32_t c);  // Python's str.split() splits there

// A text as SQuAD's evaluation compares it (Rajpurkar et al. 2016, normalize_answer): lower case, without ASCII
// punctuation and the words "a", "an" and "the", one space between words. Lower case is Unicode's simple mapping;
// Python's differs at a capital sigma that ends a word and at a capital I with a dot.
std::string normalised_answer(std::string_view text);

// Whether a text contains an answer: DPR's has_answer (Karpukhin et al. 2020) without regular expressions. Both are
// taken apart into runs of letters, digits and marks and single other signs, after canonical decomposition and in lower
// case; the answer's pieces come one after another in the text's. An answer without pieces is never contained.
class AnswerFinder {
 public:
  explicit AnswerFinder(const std::vector<std::string>& answers);
  bool found_in(std::string_view text) const;

 private:
  std::vector<std::string> answers_;  // their pieces
};

// Whether a prediction says that there is no answer: normalised it is empty or "no answer", or begins with the word
// "unanswerable".
bool says_unanswerable(std::string_view prediction);

struct QuestionScoring {
  // Some questions have no answer (no references): SQuAD 2.0.
  bool unanswerable = false;
  // F1 is 0 where prediction or answer is "yes", "no" or "noanswer" and they differ: HotpotQA (Yang et al. 2018).
  bool yes_no = false;
};

// {"em", "f1", "has_answer"}, each the greatest over the references: whether the normalised texts are equal, the F1 of
// their words, and whether the prediction contains the reference (AnswerFinder).
//
// Where some questions have no answer, a prediction that says_unanswerable() counts as the empty text, which is right
// for these alone: em and f1 are SQuAD 2.0's combined scores. "unanswerable" is 1 where the prediction says so for
// them, and does not for the others; questions without an answer have no "has_answer".
Scorer question_scorer(const QuestionScoring& scoring);

}  // namespace cepe
