#include "generate/context_mass.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <numeric>

#include "base/error.h"

namespace cepe {
namespace {

constexpr int64_t kTextTokens = 24;  // of a chunk, that are shown

// The first tokens of a chunk as one line.
std::string first_words(const Tokenizer& tokenizer, const Chunks& chunks, int64_t chunk) {
  const auto begin = chunks.ids.begin() + chunk * chunks.chunk_length;
  const std::vector<TokenId> ids(begin, begin + std::min(kTextTokens, chunks.lengths[static_cast<size_t>(chunk)]));
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
  if (written.context.tokens() == 0) return {};
  require(
      written.chunks.tokens() == written.context.tokens() && written.sources.size() == written.chunks.lengths.size(),
      "attention mass: {} chunks of {} tokens and {} sources for a context of {} tokens", written.chunks.count(),
      written.chunks.tokens(), written.sources.size(), written.context.tokens());
  std::vector<int64_t> ids(written.prompt.begin(), written.prompt.end());
  if (!written.tokens.empty()) ids.insert(ids.end(), written.tokens.begin(), written.tokens.end() - 1);
  AttentionMass mass{.chunks = ChunkBounds(written.chunks.lengths, model.device()),
                     .last = std::max<int64_t>(1, static_cast<int64_t>(written.tokens.size()))};
  decode(model, {.ids_BT = at::tensor(ids, at::kLong).unsqueeze(0).to(model.device()),
                 .context = &written.context,
                 .last = mass.last,
                 .mass = &mass});
  const at::Tensor mean_M = mass.mean()[0].contiguous();
  const double* const means = mean_M.const_data_ptr<double>();
  std::vector<int64_t> order(static_cast<size_t>(written.chunks.count()));
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return means[a] > means[b]; });
  order.resize(std::min(order.size(), static_cast<size_t>(count)));
  std::vector<ChunkMass> most;
  for (const int64_t chunk : order) {
    const ChunkSource& source = written.sources[static_cast<size_t>(chunk)];
    most.push_back({chunk, source.document, source.first_token, written.chunks.lengths[static_cast<size_t>(chunk)],
                    means[chunk], first_words(*opened.tokenizer, written.chunks, chunk)});
  }
  return most;
}

}  // namespace cepe
