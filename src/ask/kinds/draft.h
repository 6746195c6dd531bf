// A sample while it is text: the documents of its context and the questions about them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ask/random.h"
#include "ask/sources/corpus.h"
#include "ask/sources/forms.h"
#include "ask/sources/passages.h"
#include "ask/sources/question_pool.h"
#include "ask/sources/words.h"

namespace cepe {

struct AskTurn {
  std::string question;          // one line
  std::string answer;            // without white space at its ends
  std::string instruction = {};  // stands before the question, an empty line between; not with a wording
  // A wording of its own instead of "Question: ...", with how the answer begins (as Question of tasks/example.h);
  // in a chat the wording is the message.
  std::string wording = {}, answer_prefix = {};
  bool joined = false;                  // the answer follows its wording as it is, without a space between
  bool open = false;                    // the answer ends anywhere: no end is scored, and no turn follows
  std::optional<size_t> document = {};  // of facts: the place of the document that has the statement
};

struct AskDraft {
  std::vector<AskDocument> documents;
  std::vector<AskTurn> turns;
  std::string decoder_text;  // what the decoder itself reads before the first question; may be empty
  bool titles = false;       // questions need the documents' titles, so that they must be shown
  bool plain = false;        // the turn is no question but a text to go on with: its wording, then its answer
  // The documents are passages, each one chunk: what is longer than a chunk is cut, and so is an answer that is longer
  // than the decoder's part.
  bool passages = false;
};

// What a sample is made from.
struct AskSources {
  const AskWords& words;
  const AskForms& forms;
  const AskCorpus& corpus;
  const QuestionPool& questions;
  const AskPassages& passages;  // of the corpus
};

// What a kind is asked for.
struct AskRequest {
  AskRandom random;
  int64_t chunks = 1;  // wanted, about
  int64_t chunk_length = 256;
  int64_t decoder_tokens = 1024;
  bool validation = false;     // from the documents and questions that are for validation alone
  bool held_forms = false;     // facts in forms that are kept out of training, and in no others
  double unanswerable = 0;     // share of questions of files whose passage is left out
  int64_t max_passages = 40;   // beside the right ones
  int64_t query_tokens = 256;  // what passages are found by, at most

  int64_t tokens() const { return chunks * chunk_length; }
};

// A kind of sample. A draft without turns: the draw was not possible, and another is asked for.
struct AskKind {
  const char* name;
  double share;  // where the configuration gives none
  AskDraft (*make)(const AskSources& sources, AskRequest& request);
};

AskDraft make_facts(const AskSources& sources, AskRequest& request);
AskDraft make_needles(const AskSources& sources, AskRequest& request);
AskDraft make_pairs(const AskSources& sources, AskRequest& request);
AskDraft make_variables(const AskSources& sources, AskRequest& request);
AskDraft make_recall(const AskSources& sources, AskRequest& request);
AskDraft make_cloze(const AskSources& sources, AskRequest& request);
AskDraft make_natural(const AskSources& sources, AskRequest& request);
AskDraft make_file_questions(const AskSources& sources, AskRequest& request);
AskDraft make_retrieved(const AskSources& sources, AskRequest& request);

// All kinds: facts, needles, pairs, variables, recall, cloze, natural, questions, retrieved.
const std::vector<AskKind>& ask_kinds();

// ---- what kinds share

// Excerpts to hide things in, of about so many tokens.
std::vector<AskDocument> draw_haystack(const AskSources& sources, AskRequest& request, int64_t tokens);
// Puts the statements between sentences and lines of the documents, at random places but in their order; into one new
// document where there are none. -> the place of each statement's document.
std::vector<size_t> hide_statements(std::vector<AskDocument>& documents, const std::vector<std::string>& statements,
                                    AskRandom& random);
// "a, b and c" with the word "and"; "a, b, and c" with ", and"; "a, b, c" with an empty one.
std::string join_list(const std::vector<std::string>& items, const std::string& and_word);

}  // namespace cepe
