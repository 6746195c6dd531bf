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

std::vector<ChunkMass> most_read_chunks(const OpenedModel& opened, const WrittenText& written, int64_t count) {
  const at::NoGradGuard no_gradients;
  const Cepe& model = opened.model;
  const Context& context = written.context;
  if (context.tokens() == 0) return {};
  std::vector<int64_t> ids(written.prompt.begin(), written.prompt.end());
  if (!written.tokens.empty()) ids.insert(ids.end(), written.tokens.begin(), written.tokens.end() - 1);
  AttentionMass mass{.chunks = chunk_bounds(context),
                     .last = std::max<int64_t>(1, static_cast<int64_t>(written.tokens.size()))};
  decode(model, {.ids_BT = at::tensor(ids, at::kLong).unsqueeze(0).to(model.device()),
                 .context = &context.latents,
                 .last = mass.last,
                 .mass = &mass});
  const at::Tensor mean_M = mass.mean()[0].contiguous();
  const double* const means = mean_M.const_data_ptr<double>();
  std::vector<int64_t> order(context.chunks.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return means[a] > means[b]; });
  order.resize(std::min(order.size(), static_cast<size_t>(count)));
  std::vector<ChunkMass> most;
  for (const int64_t number : order) {
    const ContextChunk& chunk = context.chunks[static_cast<size_t>(number)];
    most.push_back({number, chunk.source.document, chunk.source.first_token, chunk.length, means[number],
                    first_words(*opened.tokenizer, chunk)});
  }
  return most;
}

}  // namespace cepe
