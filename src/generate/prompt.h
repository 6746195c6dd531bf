// What a generation starts from: the prompt's tokens for the decoder, and a context through the encoder.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "context/context.h"
#include "model/checkpoint/checkpoint.h"
#include "text/chunker.h"

namespace cepe {

struct PromptInput {
  std::string text;                   // the user's message; raw: the text to go on with
  std::optional<std::string> system;  // a system message before it
  bool raw = false;                   // no chat template, even where the model has one
  // Instead of the model's own, where given: the Jinja source, and the file for messages.
  std::optional<std::string> chat_template;
  std::string chat_template_file;
};

struct Prompt {
  std::vector<TokenId> tokens;
  // False: raw, or the model has no chat template. What the model makes then continues the text.
  bool templated = false;
};

// The tokens of a prompt, the names of special tokens in it parsed. Raw: the text, with the begin token where the
// tokenizer adds one. Throws Error on an empty prompt, a model without a tokenizer, a system message that no template
// can take and text that is not UTF-8; ChatTemplateError where the template or what it does with the messages is
// refused.
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
