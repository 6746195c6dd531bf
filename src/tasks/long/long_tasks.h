// Questions about long texts: who reads the text, and what becomes of the answer without it or with another's.
//
//   LongSet (long_texts.h) -> for each question and setting an Example -> Scorer (long_scores.h)
//
// A setting is a column of the results. All settings ask the same questions.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tasks/long/long_texts.h"
#include "tasks/recall.h"
#include "tasks/task.h"
#include "text/tokenizer/tokenizer.h"

namespace cepe {

struct LongTaskOptions {
  std::vector<Placement> placements = {Placement::encoder};
  bool no_document = true, other_document = true;  // controls: none, and the document of another question
  int64_t length = 0;       // tokens of a document, whose middle is cut out where it has more; 0: all of it
  bool likelihood = true;   // of options the likeliest is the answer; false: the answer is written
  bool stem = false;        // of rouge1, rouge2 and rougeL
  int64_t questions = 100;  // of each set, in an order of the seed; 0: all
  int64_t max_tokens = 0;   // of an answer; 0: the set's own
  uint64_t seed = 1;
  // By the name of a set: the prompt, with {context} where the document stands and {input} where the question does.
  std::map<std::string, std::string> prompts;
  int64_t decoder_window = 0;  // tokens
  // Of the prompt that the decoder would read, and a document's tokens and their text. Thread-safe.
  std::function<int64_t(const Question&)> count_tokens;
  std::function<std::vector<TokenId>(const std::string&)> encode;
  std::function<std::string(std::span<const TokenId>)> decode;
};

struct LongTasks {
  std::vector<Task> tasks;         // one for each set
  std::vector<std::string> notes;  // a sentence for everything that was left out, and why, and for prompts for no set
};

// Examples have the tags task (the set's name), setting (the column: "no document", "encoder", "decoder, another's
// document"), placement, document (own, other or none), length (the least power of two that the document's tokens do
// not exceed, as far as they are read) and cut (yes or no). Questions about one document are a cluster.
//
// encoder: all of the document, the decoder reads the question. decoder: as much as its window holds; the middle of a
// longer one is cut out, as LongBench cuts its prompts, so that beginning and end are read. split: the decoder reads
// the last half, or half of what question and answer leave of its window where that is less, and the encoder what comes
// before. Left out are questions that do not fit in the decoder's window by themselves, and those with several right
// options where the likeliest is taken. Error on numbers out of range, an empty list, a prompt without {context}, two
// sets of one name, and where no question is left.
LongTasks long_tasks(const std::vector<std::shared_ptr<const LongSet>>& sets, const LongTaskOptions& options);

// The first and the last half of so many tokens, those between cut out; all of them where there are no more.
std::vector<TokenId> cut_in_the_middle(std::span<const TokenId> tokens, int64_t count);

}  // namespace cepe
