// Files of questions in the forms that the field uses.
#pragma once

#include <filesystem>

#include "tasks/questions/questions.h"

namespace cepe {

// Reads .json, .jsonl (.ndjson) and either as .zst. A file named .json may hold one JSON value or an object a line.
//
//   form       what it looks like                                     passages                     gold passages
//   dpr        {"question", "answers", "ctxs": [{"title", "text"}]}   ctxs                         "isgold": true
//   squad      {"data": [{"title", "paragraphs": [{"context", "qas"}]}]}, 1.1 and 2.0   its context   its context
//   hotpotqa   {"_id", "question", "answer", "context", "supporting_facts"}   context        titles of supporting_facts
//   triviaqa   {"Data": [{"QuestionId", "Question", "Answer": {"Value", "Aliases"}}]}    none
//   popqa      {"question", "possible_answers", "paragraphs"?}        paragraphs                   "is_supporting":
//   true nq-open    {"question", "answer": [...]}                          none flashrag   {"id", "question",
//   "golden_answers": [...]}            none plain      {"question", "answers" or "answer", "documents" or "passages"?,
//   "gold"?, "context"?, "id"?, "dataset"?};
//              documents are texts or {"title", "text"}, gold is their indices from 0; a context is one gold passage;
//              an empty list of answers: it cannot be answered; ids are unique in their dataset
//
// dpr is the form of retrieval results (DPR, FiD, Atlas) and of "Lost in the middle". Where none of a question's
// passages is marked as gold, the first whose text contains an answer (AnswerFinder) is. Of HotpotQA only questions
// whose hexadecimal _id is divisible by five are taken, so that a model may have been trained on the others; the
// passages of all are there. Line breaks in questions become spaces.
//
// Error naming the file and the line or place where something is missing, of another type or empty, where an id comes
// twice, where automatic finds no form that it knows, and where there is no question.
QuestionSet read_questions(const std::filesystem::path& path, QuestionForm form = QuestionForm::automatic);

}  // namespace cepe
