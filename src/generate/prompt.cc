#include "generate/prompt.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "text/chat_template.h"

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

std::string rendered(const OpenedModel& opened, const PromptInput& input) {
  const Tokenizer& tokenizer = *opened.tokenizer;
  ChatTemplateInput chat;
  if (input.system) chat.messages.push_back({"system", *input.system});
  chat.messages.push_back({"user", input.text});
  chat.bos_token = special_text(tokenizer, tokenizer.bos());
  chat.eos_token = special_text(tokenizer, tokenizer.eos());
  return ChatTemplate(opened.chat_template).render(chat);
}

}  // namespace

Prompt build_prompt(const OpenedModel& opened, const PromptInput& input) {
  const Tokenizer& tokenizer = tokenizer_of(opened);
  require(!input.text.empty(), "the prompt is empty");
  Prompt prompt;
  prompt.templated = !input.raw && !opened.chat_template.empty();
  require(prompt.templated || !input.system, "a system message needs a chat template, and {}",
          input.raw ? std::string("--raw leaves it out") : opened.path.string() + " has none");
  if (prompt.templated) {
    prompt.tokens = tokenizer.encode(rendered(opened, input), {.add_special_tokens = false});
  } else {
    prompt.tokens = tokenizer.encode(input.text, {.add_special_tokens = true});
  }
  require(!prompt.tokens.empty(), "the prompt has no tokens");
  return prompt;
}

Chunks read_context(const OpenedModel& opened, const std::vector<std::filesystem::path>& files) {
  Chunks chunks;
  chunks.chunk_length = context_chunk_length(opened.model.config);
  if (files.empty()) return chunks;
  require_encoder(opened);
  const Tokenizer& tokenizer = tokenizer_of(opened);
  for (const std::filesystem::path& file : files) {
    const std::string text = read_file(file);
    require(!text.empty(), "{}: the context file is empty", file.string());
    try {
      append_chunks(tokenizer.encode(text, {.parse_special_tokens = false}), chunks);
    } catch (const Error& error) {
      fail("{}: {}", file.string(), error.what());
    }
  }
  return chunks;
}

Latents encode_context(const Cepe& model, const Chunks& chunks) {
  if (chunks.count() == 0) return {};
  const at::NoGradGuard no_gradients;
  const int64_t M = chunks.count(), L = chunks.chunk_length;
  std::vector<int64_t> ids(chunks.ids.begin(), chunks.ids.end());
  const at::Tensor lengths_M = at::tensor(chunks.lengths, at::kLong);
  const at::Tensor mask_ML = at::arange(L, at::kLong).unsqueeze(0) < lengths_M.unsqueeze(1);
  const bool padded = chunks.tokens() < M * L;

  ContextChunks context;
  context.ids_BML = at::tensor(ids, at::kLong).view({1, M, L}).to(model.device());
  if (padded) context.mask_BML = mask_ML.unsqueeze(0).to(model.device());
  Latents latents = encode(model, context);
  if (padded) {
    const at::Tensor real_S = mask_ML.view({-1}).nonzero().squeeze(1).to(model.device());
    latents = Latents{latents.states_BSE.index_select(1, real_S), at::Tensor()};
  }
  return latents;
}

int64_t context_chunk_length(const CepeConfig& config) {
  if (!config.encoder || config.encoder->max_positions <= 0) return config.chunk_length;
  return std::min(config.chunk_length, config.encoder->max_positions);
}

std::vector<TokenId> end_tokens(const OpenedModel& opened) {
  std::vector<TokenId> tokens;
  for (const int64_t token : opened.model.config.decoder.end_tokens) tokens.push_back(static_cast<TokenId>(token));
  if (opened.tokenizer && opened.tokenizer->eos()) tokens.push_back(*opened.tokenizer->eos());
  std::sort(tokens.begin(), tokens.end());
  tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
  return tokens;
}

}  // namespace cepe
