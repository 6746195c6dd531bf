#include "context/context.h"

#include <ATen/ATen.h>

#include "base/error.h"

namespace cepe {
namespace {

// (B, S, ...) -> the ranges of S, one after another
at::Tensor ranges_of(const at::Tensor& x, const std::vector<TokenRange>& ranges) {
  if (!x.defined()) return x;
  if (ranges.size() == 1) return x.narrow(1, ranges[0].first, ranges[0].count);
  std::vector<at::Tensor> parts;
  for (const TokenRange& range : ranges) parts.push_back(x.narrow(1, range.first, range.count));
  return at::cat(parts, 1);
}

std::string kind_of(const Latents& latents) {
  const at::Tensor& states = latents.states_BSE;
  if (!states.defined()) return "chunks without states";
  return fmt::format("{} numbers a token in {} on {}", states.size(2), c10::toString(states.scalar_type()),
                     states.device().str());
}

void append_chunk(ContextChunk chunk, std::vector<ContextChunk>& chunks) {
  chunk.offset = chunks.empty() ? 0 : chunks.back().offset + chunks.back().length;
  chunks.push_back(std::move(chunk));
}

}  // namespace

Latents select_tokens(const Latents& latents, std::span<const TokenRange> ranges) {
  std::vector<TokenRange> runs;  // neighbours as one
  for (const TokenRange& range : ranges) {
    require(range.first >= 0 && range.count > 0 && range.first + range.count <= latents.tokens(),
            "context: tokens {} to {} of {} are asked for", range.first, range.first + range.count - 1,
            latents.tokens());
    const bool follows = !runs.empty() && runs.back().first + runs.back().count == range.first;
    if (follows)
      runs.back().count += range.count;
    else
      runs.push_back(range);
  }
  if (runs.empty()) return {};
  return {.states_BSE = ranges_of(latents.states_BSE, runs),
          .mask_BS = ranges_of(latents.mask_BS, runs),
          .scales_BS = ranges_of(latents.scales_BS, runs)};
}

Context unencoded(std::vector<TextChunk> chunks) {
  Context context;
  for (TextChunk& chunk : chunks) {
    const auto length = static_cast<int64_t>(chunk.tokens.size());
    append_chunk({.length = length, .source = std::move(chunk.source), .tokens = std::move(chunk.tokens)},
                 context.chunks);
  }
  return context;
}

int64_t encoder_tokens(const Context& context) {
  int64_t count = 0;
  for (const ContextChunk& chunk : context.chunks) count += std::ssize(chunk.tokens);
  return count;
}

Context join(std::span<const Context> contexts) {
  std::vector<const Context*> parts;
  for (const Context& context : contexts) {
    if (!context.chunks.empty() || context.tokens() > 0) parts.push_back(&context);
  }
  if (parts.empty()) return {};
  if (parts.size() == 1) return *parts[0];
  const std::string kind = kind_of(parts[0]->latents);
  Context joined;
  std::vector<at::Tensor> states, scales;
  for (const Context* part : parts) {
    require(kind_of(part->latents) == kind, "join: contexts of one kind are needed, found {} and {}", kind,
            kind_of(part->latents));
    require(!part->latents.mask_BS.defined(), "join: a context without padding is needed, found one with a mask");
    if (part->encoded()) states.push_back(part->latents.states_BSE);
    if (part->latents.scales_BS.defined()) scales.push_back(part->latents.scales_BS);
    for (const ContextChunk& chunk : part->chunks) append_chunk(chunk, joined.chunks);
  }
  if (!states.empty()) joined.latents.states_BSE = at::cat(states, 1);
  if (!scales.empty()) joined.latents.scales_BS = at::cat(scales, 1);
  return joined;
}

Context select(const Context& context, std::span<const int64_t> chunks) {
  const int64_t count = static_cast<int64_t>(context.chunks.size());
  bool all = static_cast<int64_t>(chunks.size()) == count;
  Context selected;
  std::vector<TokenRange> ranges;
  for (size_t i = 0; i < chunks.size(); ++i) {
    require(chunks[i] >= 0 && chunks[i] < count, "context: chunk {} is asked for, there are {}", chunks[i], count);
    const ContextChunk& chunk = context.chunks[static_cast<size_t>(chunks[i])];
    ranges.push_back({chunk.offset, chunk.length});
    append_chunk(chunk, selected.chunks);
    all = all && chunks[i] == static_cast<int64_t>(i);
  }
  if (all) return context;
  if (context.encoded()) selected.latents = select_tokens(context.latents, ranges);
  return selected;
}

Context quantise(const Context& context) { return {quantize(context.latents), context.chunks}; }

ChunkBounds chunk_bounds(const Context& context) {
  require(context.tokens() > 0, "attention mass: the context has no tokens");
  std::vector<int64_t> lengths;
  for (const ContextChunk& chunk : context.chunks) lengths.push_back(chunk.length);
  return ChunkBounds(lengths, context.latents.states_BSE.device());
}

}  // namespace cepe
