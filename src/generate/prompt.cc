#include "generate/prompt.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "base/error.h"
#include "text/text_file.h"

namespace cepe {
namespace {

const Tokenizer& tokenizer_of(const OpenedModel& opened) {
  require(opened.tokenizer != nullptr, "{}: no tokenizer was found beside the weights, and text needs one",
          opened.path.string());
  return *opened.tokenizer;
}

void require_encoder(const OpenedModel& opened) {
  require(opened.model.encoder.has_value(),
          "{}: a plain decoder has no encoder to read a context with: give a model with CEPE parts, or no context",
          opened.path.string());
}

std::string special_text(const Tokenizer& tokenizer, std::optional<TokenId> token) {
  return token ? tokenizer.token_text(*token) : std::string();
}

// Whole chunks' worth of tokens between two reports of progress; encode_packed() takes as many as suit the device.
constexpr int64_t kChunksAGroup = 32;

// The chunks from `first` on that are encoded before the next report.
int64_t group_size(const Chunks& chunks, int64_t first) {
  const int64_t most = kChunksAGroup * chunks.chunk_length;
  int64_t count = 0, tokens = 0;
  while (first + count < chunks.count() && tokens + chunks.lengths[first + count] <= most) {
    tokens += chunks.lengths[first + count];
    ++count;
  }
  return count;
}

// The real tokens of some chunks.
PackedChunks packed_chunks(const Chunks& chunks, int64_t first, int64_t count) {
  PackedChunks packed;
  std::vector<int64_t> ids;
  for (int64_t i = first; i < first + count; ++i) {
    const auto begin = chunks.ids.begin() + i * chunks.chunk_length;
    ids.insert(ids.end(), begin, begin + chunks.lengths[i]);
    packed.lengths.push_back(chunks.lengths[i]);
  }
  packed.ids_N = at::tensor(ids, at::kLong);
  return packed;
}

}  // namespace

PromptBuilder::PromptBuilder(const OpenedModel& opened, const TemplateChoice& choice)
    : tokenizer_(opened.tokenizer), special_tokens_(opened.special_tokens) {
  static_cast<void>(tokenizer_of(opened));
  if (choice.none) {
    no_template_ = "a raw prompt is put into none";
  } else if (choice.text) {
    template_.emplace(*choice.text, choice.file);
  } else if (!opened.chat_template.empty()) {
    template_.emplace(opened.chat_template, opened.chat_template_file);
  } else {
    no_template_ = opened.path.string() + " has none";
  }
}

std::vector<TokenId> PromptBuilder::chat(const std::vector<ChatMessage>& messages) const {
  require(template_.has_value(), "a conversation needs a chat template, and {}", no_template_);
  const std::string text = template_->render({.messages = messages,
                                              .bos_token = special_text(*tokenizer_, tokenizer_->bos()),
                                              .eos_token = special_text(*tokenizer_, tokenizer_->eos()),
                                              .special_tokens = special_tokens_});
  std::vector<TokenId> tokens = tokenizer_->encode(text, {.add_special_tokens = false});
  require(!tokens.empty(), "the chat template makes an empty prompt of the conversation");
  return tokens;
}

std::vector<TokenId> PromptBuilder::continuation(std::string_view text) const {
  require(!text.empty(), "the prompt is empty");
  std::vector<TokenId> tokens = tokenizer_->encode(text, {.add_special_tokens = true});
  require(!tokens.empty(), "the prompt has no tokens");
  return tokens;
}

Prompt PromptBuilder::prompt(const std::string& text, const std::optional<std::string>& system) const {
  require(!text.empty(), "the prompt is empty");
  require(has_template() || !system, "a system message needs a chat template, and {}", no_template_);
  if (!has_template()) return {continuation(text), false};
  std::vector<ChatMessage> messages;
  if (system) messages.push_back({"system", *system});
  messages.push_back({"user", text});
  return {chat(messages), true};
}

Prompt build_prompt(const OpenedModel& opened, const PromptInput& input) {
  return PromptBuilder(opened, input.chat_template).prompt(input.text, input.system);
}

Chunks read_context(const OpenedModel& opened, const std::vector<std::filesystem::path>& files,
                    std::vector<ChunkSource>* sources) {
  Chunks chunks;
  chunks.chunk_length = context_chunk_length(opened.model.config);
  if (files.empty()) return chunks;
  require_encoder(opened);
  const Tokenizer& tokenizer = tokenizer_of(opened);
  for (const std::filesystem::path& file : files) {
    read_text_file(file, "", [&](const TextDocument& document) {
      try {
        append_chunks(tokenizer.encode(document.text, {.parse_special_tokens = false}), chunks);
      } catch (const Error& error) {
        fail("{}: {}", document.name, error.what());
      }
      if (!sources) return;
      for (int64_t first = 0; static_cast<int64_t>(sources->size()) < chunks.count(); first += chunks.chunk_length) {
        sources->push_back({document.name, first});
      }
    });
  }
  return chunks;
}

bool int8_latents_from_name(const std::string& name, const std::string& option) {
  require(name == "int8" || name == "stored", "{}: expected stored or int8, found \"{}\"", option, name);
  return name == "int8";
}

Latents encode_context(const Cepe& model, const Chunks& chunks, const ContextOptions& options) {
  if (chunks.count() == 0) return {};
  require(model.encoder.has_value(), "this model has no encoder: it is a plain decoder and cannot read a context");
  const at::NoGradGuard no_gradients;
  const int64_t width = model.encoder->stack.config.hidden_size;
  // Written into place, so that the states are held once, however long the context is.
  const at::TensorOptions stored = model.any_weight().options();
  Latents latents{.states_BSE =
                      at::empty({1, chunks.tokens(), width}, options.int8 ? stored.dtype(at::kByte) : stored)};
  if (options.int8) latents.scales_BS = at::empty({1, chunks.tokens()}, stored.dtype(at::kFloat));
  int64_t written = 0;
  for (int64_t first = 0, count = 0; first < chunks.count(); first += count) {
    count = group_size(chunks, first);
    PackedChunks packed = packed_chunks(chunks, first, count);
    packed.ids_N = packed.ids_N.to(model.device());
    Latents group = encode_packed(model, packed);
    const int64_t tokens = group.tokens();
    if (options.int8) group = quantize(group);
    latents.states_BSE.narrow(1, written, tokens).copy_(group.states_BSE);
    if (options.int8) latents.scales_BS.narrow(1, written, tokens).copy_(group.scales_BS);
    written += tokens;
    if (options.progress) options.progress(count);
  }
  return latents;
}

int64_t context_chunk_length(const CepeConfig& config) {
  if (!config.encoder || encoder_window(*config.encoder) <= 0) return config.chunk_length;
  return std::min(config.chunk_length, encoder_window(*config.encoder));
}

std::vector<TokenId> end_tokens(const OpenedModel& opened) {
  std::vector<TokenId> tokens;
  // An id outside the vocabulary ends nothing: no such token is ever drawn.
  for (const int64_t token : opened.model.config.decoder.end_tokens) {
    const bool known = token >= 0 && token < opened.model.config.decoder.vocab_size;
    if (known) tokens.push_back(static_cast<TokenId>(token));
  }
  if (opened.tokenizer && opened.tokenizer->eos()) tokens.push_back(*opened.tokenizer->eos());
  std::sort(tokens.begin(), tokens.end());
  tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
  return tokens;
}

}  // namespace cepe
