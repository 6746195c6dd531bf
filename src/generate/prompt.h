// What a generation starts from: the prompt's tokens for the decoder, and a context through the encoder.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "context/context.h"
#include "model/checkpoint/checkpoint.h"
#include "text/chat_template.h"
#include "text/chunker.h"

namespace cepe {

// Which chat template prompts are put into.
struct TemplateChoice {
  bool none = false;                // raw: none, even where the model has one
  std::optional<std::string> text;  // instead of the model's own: the Jinja source
  std::string file = {};            // that holds it, for messages
};

struct Prompt {
  std::vector<TokenId> tokens;
  // False: raw, or the model has no chat template. What the model makes then continues the text.
  bool templated = false;
};

// Makes the tokens of prompts for one model; the chat template is parsed once. Immutable: threads may share one. Shares
// the model's tokenizer, so that the model may go first.
class PromptBuilder {
 public:
  // Throws Error where the model has no tokenizer; ChatTemplateError where the template is refused.
  explicit PromptBuilder(const OpenedModel& opened, const TemplateChoice& choice = {});

  bool has_template() const { return template_.has_value(); }
  const Tokenizer& tokenizer() const { return *tokenizer_; }

  // A conversation, put into the template up to the beginning of the next answer; the names of special tokens in it are
  // parsed. Throws Error where there is no template or a message is not UTF-8; ChatTemplateError where the template
  // refuses the messages.
  std::vector<TokenId> chat(const std::vector<ChatMessage>& messages) const;
  // A text to go on with: its tokens, special ones parsed, after the begin token where the tokenizer adds one. Throws
  // Error on an empty text, and on one that is not UTF-8.
  std::vector<TokenId> continuation(std::string_view text) const;
  // One user's message, after a system message where one is given, as chat() where there is a template; else the text
  // as continuation(). Throws Error as they do, on an empty text and on a system message that no template can take.
  Prompt prompt(const std::string& text, const std::optional<std::string>& system = {}) const;

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::optional<ChatTemplate> template_;
  std::string no_template_;  // where there is none: why, for messages
  std::map<std::string, std::string> special_tokens_;
};

struct PromptInput {
  std::string text;                   // the user's message; without a template: the text to go on with
  std::optional<std::string> system;  // a system message before it
  TemplateChoice chat_template = {};
};
// PromptBuilder::prompt() for one prompt.
Prompt build_prompt(const OpenedModel& opened, const PromptInput& input);

// The chunks of text files (plain text or records, compressed or not: text/text_file.h), each document cut by itself.
// Special tokens in the text are plain text here. Throws Error when a file cannot be read, is empty or not UTF-8, and
// when the model has no encoder or no tokenizer.
// sources: gets one for each chunk, where given.
Chunks read_context(const OpenedModel& opened, const std::vector<std::filesystem::path>& files,
                    std::vector<ChunkSource>* sources = nullptr);

struct ContextOptions {
  bool int8 = false;  // states in 8 bits a number: half of bfloat16's memory (model/cross_attention.h)
  std::function<void(int64_t)> progress;  // called with the chunks read since its last call; may be empty
};
// -> the encoder's states of the real tokens, without those of padding, so that no mask is needed: (1, S, E) with
// S = chunks.tokens(). No gradients. Progress comes dozens of times for a book. Throws Error when the model has no
// encoder.
Latents encode_context(const Cepe& model, const Chunks& chunks, const ContextOptions& options = {});

// Of --latents: whether "int8" is asked for; "stored" is the other. Error otherwise.
bool int8_latents_from_name(const std::string& name, const std::string& option);

// The length of the chunks that a model's encoder reads: as trained, within its window.
int64_t context_chunk_length(const CepeConfig& config);

// The tokens that end an answer: the model's own, and the tokenizer's end token.
std::vector<TokenId> end_tokens(const OpenedModel& opened);

}  // namespace cepe
