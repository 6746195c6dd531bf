// Files of questions in the forms that the field uses.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tasks/questions/questions.h"

namespace cepe {

// Which of a file's questions are read.
struct QuestionChoice {
  // Numbered from 1; odd and even: of files with an object a line.
  enum class Lines { all, odd, even };
  // HotpotQA's, by their hexadecimal _id: measuring takes those divisible by five, and the passages of all; training
  // the others, with their passages alone.
  enum class HotpotQa { measuring, training };
  Lines lines = Lines::all;
  HotpotQa hotpotqa = HotpotQa::measuring;
  // Where given: a record that is wrong is left out, and so is a passage without text, and the sentence about it is
  // added here. Else it is thrown as Error.
  std::vector<std::string>* faults = nullptr;
  // TriviaQA's evidence, a directory with wikipedia/ and web/ in it; empty: its questions have no passages.
  std::filesystem::path evidence = {};
};

// Reads .json, .jsonl (.ndjson) and either as .zst or .gz. A file named .json may hold one JSON value or an object a
// line.
//
//   form      what it looks like                                            passages    gold passages
//   dpr       {"question", "answers", "ctxs": [{"title", "text"}]}          ctxs        "isgold": true
//   squad     {"data": [{"title", "paragraphs": [{"context", "qas"}]}]}     context     context
//   hotpotqa  {"_id", "question", "answer", "context", "supporting_facts"}  context     supporting_facts
//   triviaqa  {"Data": [{"QuestionId", "Question", "Answer"}]}              evidence    none
//   popqa     {"question", "possible_answers", "paragraphs"?}               paragraphs  "is_supporting": true
//   nq_open   {"question", "answer": [...]}                                 none
//   flashrag  {"id", "question", "golden_answers": [...]}                   none
//   plain     {"question", "answers" or "answer"}                           documents   "gold"
//   answered  {"id": {"question", "passages"}, "text", "stop_reason"}       passages    all
//
// answered: what `cepe generate --prompts` wrote of prompts that `cepe data prompts` made: the model's own answer to
// the question, which it read with its passages, behind the "instruction" where the id has one. Left out are prompts
// that failed and answers that are empty or were cut off (stop_reason max_tokens or window). plain: perhaps also
// "documents" or "passages", texts or {"title", "text"}; "gold", their indices from 0; "context", one gold passage;
// "id", unique in its "dataset". triviaqa: with `evidence` the texts of EntityPages and SearchResults that are there,
// each in passages of 100 words. An empty list of answers: it cannot be answered. dpr is the form of retrieval results
// (DPR, FiD, Atlas) and of "Lost in the middle"; squad is 1.1 and 2.0. Where none of a question's passages is marked as
// gold, the first whose text contains an answer (AnswerFinder) is. Line breaks in questions become spaces.
//
// Error naming the file and the line or place where something is missing, of another type or empty, where an id comes
// twice, where automatic finds no form that it knows, and where there is no question.
QuestionSet read_questions(const std::filesystem::path& path, QuestionForm form = QuestionForm::automatic,
                           const QuestionChoice& choice = {});

}  // namespace cepe
