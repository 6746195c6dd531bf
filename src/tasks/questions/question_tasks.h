// Questions about passages: who reads how many passages, whether one of them answers, and where it stands.
//
//   QuestionSet (questions.h) -> for each question and setting an Example -> Scorer (question_scores.h)
//
// A setting is a column of the results. All settings ask the same questions.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tasks/questions/question_settings.h"
#include "tasks/questions/questions.h"
#include "tasks/task.h"

namespace cepe {

struct QuestionTasks {
  std::vector<Task> tasks;         // one for each set
  std::vector<std::string> notes;  // a sentence for everything that was left out, and why
};

// Examples have the tags task (the set's name), setting (the column: "decoder 10 + encoder 5, gold in the encoder,
// first"), decoder, encoder (numbers of passages), gold (always, never, retrieved, none or other), reader, position and
// answerable (yes or no). White space before an answer is dropped; the answer ends at its first line break.
//
// Passages: the decoder reads the first of the list, the encoder those that follow, so that more passages add to fewer.
// Beside the gold ones stand passages without an answer: the question's own, then (same_article) others of the same
// article, then any of the set, drawn by the seed. All gold passages of a question stand together, as far as their
// reader has places; where only one reads passages, it reads the gold ones. The control "another question's" has the
// passages that a question of another cluster has in that setting, none of them with an answer to this one.
//
// Sets without passages have the setting "no passages" alone. Where passages are asked for, only questions with a gold
// passage (always, never) or passages of their own (retrieved) are asked. Error on numbers out of range, an empty list,
// two sets of one name, and where no question is left.
QuestionTasks question_tasks(const std::vector<std::shared_ptr<const QuestionSet>>& sets,
                             const QuestionTaskOptions& options);

}  // namespace cepe
