// From a draft to a sample: chunks of the context, then the decoder's segments and which of their tokens are scored.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ask/kinds/draft.h"
#include "data/shards.h"
#include "text/chat_template.h"
#include "text/tokenizer/tokenizer.h"

namespace cepe {

// A model's chat template and the special tokens that it names.
struct AskChat {
  ChatTemplate chat_template;
  std::map<std::string, std::string> special_tokens = {};
};

struct AskSample {
  std::string kind;
  std::vector<TokenId> tokens;
  std::vector<SamplePiece> pieces;
};

struct AskLayoutOptions {
  int64_t chunk_length = 256;
  int64_t most_chunks = 64;
  int64_t decoder_tokens = 1024;  // at most
  double answer_weight = 1, question_weight = 0;
};

// Immutable and thread-safe; tokenizer and chat must outlive it.
//
// The decoder reads "Question: ...\nAnswer:", as `question` of tasks/example.h; the answer follows as " ...", its space
// in its first token, as it will be generated. A further question follows behind an empty line, whose first token is
// scored as the end of the answer; behind the last answer the end-of-text token is. In a chat each question is a user's
// message, and the template's first token behind an answer is scored.
//
// Prompt and answer are encoded apart where a tokenizer allows it. One that puts a space of its own before a text
// (SentencePiece) encodes the whole text up to each boundary; a turn's tokens are what is new.
class AskLayout {
 public:
  // chat: null for none. Error where the tokenizer has no end-of-text token or encodes a text otherwise when more
  // follows, or the chat template does not go on from a conversation's earlier text.
  AskLayout(const Tokenizer& tokenizer, const AskChat* chat, AskLayoutOptions options);

  // Nothing where the context has more chunks than allowed or the first question and answer do not fit the decoder;
  // further turns that do not fit are left out. chat: in the chat template.
  std::optional<AskSample> lay_out(const AskDraft& draft, bool chat, AskRandom& random) const;

 private:
  void add_context(const AskDraft& draft, AskRandom& random, AskSample& sample) const;
  void add_questions(const AskDraft& draft, AskRandom& random, AskSample& sample) const;
  void add_chat(const AskDraft& draft, AskSample& sample) const;
  std::optional<std::vector<TokenId>> encode_after(const std::string& before, const std::string& text,
                                                   bool special) const;
  bool add_turn(const std::vector<TokenId>& prompt, const std::vector<TokenId>& answer, bool scored_question,
                AskSample& sample) const;
  void add_piece(std::span<const TokenId> tokens, double weight, AskSample& sample) const;
  std::string render(const std::vector<ChatMessage>& messages, bool open) const;

  const Tokenizer& tokenizer_;
  const AskChat* chat_;
  AskLayoutOptions options_;
  TokenId end_;
  bool apart_ = true;  // pieces of a text have the tokens of the text
};

// The documents of a draft as the context has them, in a random way of showing titles and numbers.
std::vector<std::string> document_texts(const AskDraft& draft, AskRandom& random);

}  // namespace cepe
