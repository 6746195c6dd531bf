// Expand on demand: the chunks of a context that a question is about are read a second time, as text in the decoder's
// own window, before the question. The encoder's states of the whole context stay beside them: the decoder still sees
// everything, and these words exactly. Or the states of the best chunks alone stay: among fewer like things the decoder
// confuses fewer.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "context/context.h"
#include "model/checkpoint/checkpoint.h"
#include "text/bm25.h"

namespace cepe {

// What says which chunks these are.
enum class ExpandBy {
  words,  // BM25 (text/bm25.h) of each chunk's text for the question's words
  mass,   // the attention mass that each chunk gets while the decoder reads the prompt without them
  both,   // reciprocal rank fusion of the two (Cormack et al. 2009: the sum of 1 / (60 + rank))
};
const char* expand_by_name(ExpandBy by);  // "words", "mass", "both"
// Error naming the option where there is no such way.
ExpandBy expand_by_from_name(std::string_view name, std::string_view option);

struct ExpandOptions {
  int64_t chunks = 0;  // the most that are read again; 0: none
  ExpandBy by = ExpandBy::words;
  int64_t top = 0;                             // the most chunks whose states are read for the answer; 0: all
  bool int8 = false;                           // of states that are made here: 8 bits a number
  std::function<void(int64_t)> progress = {};  // of states that are made here, as ContextOptions::progress
  bool any() const { return chunks > 0 || top > 0; }
  // Whether chunks are chosen by their words alone, so that only the chosen ones need states: the context may come
  // without (unencoded() of context/context.h).
  bool encodes_late() const { return top > 0 && by == ExpandBy::words; }
};

// Where a chunk of a context is from.
struct ChunkPlace {
  int64_t chunk = 0;  // its number in the context
  ChunkSource source = {};
  int64_t tokens = 0;
};
// A prompt, the chunks of the context that stand in it as text, and what the decoder reads beside it.
struct ExpandedPrompt {
  std::vector<TokenId> tokens;
  std::vector<ChunkPlace> chunks;          // in the order of the context
  std::shared_ptr<const Context> context;  // the one that was given, or its best chunks in their order
};

// A question to be put to a model.
struct ExpandQuestion {
  std::string words;  // the question alone, whose words are looked for
  // The prompt's tokens with a text before the question; the text may be empty.
  std::function<std::vector<TokenId>(const std::string& text)> prompt;
  int64_t room = 0;  // the most tokens of a prompt that has chunks in it
};

// Expands prompt after prompt. What is known of the words of the last context is kept. Not thread-safe.
class Expander {
 public:
  // The model must outlive it.
  Expander(const OpenedModel& opened, const ExpandOptions& options) : opened_(opened), options_(options) {}

  // The prompt with as many of the best chunks as options and room allow, in the order of the context, their sentences
  // completed where the room allows that too, as it was where the question has no context, no chunk shares a word with
  // it, or none fits; and the context, or its best chunks, which are encoded now where the context is not. A context
  // that is encoded as a whole, for no chunk has a word of the question's, is kept until another context comes. Costs,
  // by mass, one pass of the decoder over the prompt. Error where a context without states is to be read by mass.
  ExpandedPrompt expand(const std::shared_ptr<const Context>& context, const ExpandQuestion& question);

  // The numbers of the best chunks, the best first, as many as the larger of both numbers of the options.
  std::vector<int64_t> best_chunks(const std::shared_ptr<const Context>& context, const std::string& words,
                                   std::span<const TokenId> prompt);

 private:
  std::shared_ptr<const Context> read_of(const std::shared_ptr<const Context>& context, std::vector<int64_t> best);
  const Bm25Index& words_of(const std::shared_ptr<const Context>& context);

  const OpenedModel& opened_;
  const ExpandOptions options_;
  std::weak_ptr<const Context> indexed_;  // what words_ is of; its memory is its owners' to free
  Bm25Index words_;
  std::shared_ptr<const Context> whole_;  // indexed_, with its states, if it came without and they were needed
};

// What becomes of a sentence or line that a chunk's border cuts.
enum class Borders {
  completed,  // from the neighbour, where it ends within 128 tokens
  cut,
};
// The text of chunks in the order of the context: neighbours of one document run on, between others is an empty line.
// The names of special tokens in it get a space after their first character ("< |im_end|>"): a prompt's are parsed, and
// a document must not end the user's message.
std::string text_of_chunks(const Tokenizer& tokenizer, const Context& context, std::span<const int64_t> chunks,
                           Borders borders = Borders::completed);

}  // namespace cepe
