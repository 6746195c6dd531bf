#include "generate/context_mass.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <numeric>
#include <span>

namespace cepe {
namespace {

constexpr size_t kTextTokens = 24;  // of a chunk, that are shown

// The first tokens of a chunk as one line.
std::string first_words(const Tokenizer& tokenizer, const ContextChunk& chunk) {
  const std::span<const TokenId> ids = std::span(chunk.tokens).first(std::min(kTextTokens, chunk.tokens.size()));
  std::string line;
  bool space = true;
  for (const char c : tokenizer.decode(ids)) {
    const bool white = c == ' ' || c == '\n' || c == '\t' || c == '\r';
    if (!white)
      line += c;
    else if (!space)
      line += ' ';
    space = white;
  }
  return line;
}

}  // namespace

std::vector<double> chunk_masses(const Cepe& model, const ReadText& text) {
  const at::NoGradGuard no_gradients;
  const std::vector<int64_t> ids(text.tokens.begin(), text.tokens.end());
  AttentionMass mass{.chunks = chunk_bounds(text.context), .last = text.last};
  decode(model, {.ids_BT = at::tensor(ids, at::kLong).unsqueeze(0).to(model.device()),
                 .context = &text.context.latents,
                 .last = text.last,
                 .mass = &mass});
  const at::Tensor mean_M = mass.mean()[0].contiguous();
  return {mean_M.const_data_ptr<double>(), mean_M.const_data_ptr<double>() + mean_M.numel()};
}

std::vector<ChunkMass> most_read_chunks(const OpenedModel& opened, const WrittenText& written, int64_t count) {
  const Context& context = written.context;
  if (context.tokens() == 0) return {};
  std::vector<TokenId> read = written.prompt;
  if (!written.tokens.empty()) read.insert(read.end(), written.tokens.begin(), written.tokens.end() - 1);
  const int64_t last = std::max<int64_t>(1, static_cast<int64_t>(written.tokens.size()));
  const std::vector<double> means = chunk_masses(opened.model, {read, context, last});
  std::vector<int64_t> order(context.chunks.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return means[static_cast<size_t>(a)] > means[static_cast<size_t>(b)]; });
  order.resize(std::min(order.size(), static_cast<size_t>(count)));
  std::vector<ChunkMass> most;
  for (const int64_t number : order) {
    const ContextChunk& chunk = context.chunks[static_cast<size_t>(number)];
    most.push_back({number, chunk.source.document, chunk.source.first_token, std::ssize(chunk.tokens),
                    means[static_cast<size_t>(number)], first_words(*opened.tokenizer, chunk)});
  }
  return most;
}

}  // namespace cepe
