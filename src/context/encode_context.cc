#include "context/encode_context.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <map>
#include <vector>

#include "base/error.h"

namespace cepe {
namespace {

// Tokens that are encoded between two reports of progress: as many as a GPU takes at once; seconds of a CPU's work, and
// four pieces (model/cepe.cc) for each of its threads.
int64_t group_tokens(const at::Device& device) {
  return device.is_cuda() ? 32768 : std::max<int64_t>(8192, 4 * 256 * at::get_num_threads());
}

void check_chunks(const Cepe& model, std::span<const TextChunk> chunks) {
  require(model.encoder.has_value(), "this model has no encoder: it is a plain decoder and cannot read a context");
  const bool own = model.config.encoder_embeddings == EncoderEmbeddings::own;
  const int64_t vocabulary = (own ? model.encoder->stack : model.decoder.stack).embedding.size(0);
  for (const TextChunk& chunk : chunks) {
    require(!chunk.tokens.empty(), "{}: a chunk without tokens", chunk.source.document);
    for (const TokenId token : chunk.tokens) {
      require(token >= 0 && token < vocabulary, "{}: token {} is outside the encoder's vocabulary of {}",
              chunk.source.document, token, vocabulary);
    }
  }
}

// The context's memory, to be written.
Context unwritten(const Cepe& model, std::span<const TextChunk> chunks, bool int8) {
  Context context;
  int64_t offset = 0;
  for (const TextChunk& chunk : chunks) {
    const int64_t length = pooled_length(model.config.decoder.cross, static_cast<int64_t>(chunk.tokens.size()));
    context.chunks.push_back({offset, length, chunk.source, chunk.tokens});
    offset += length;
  }
  const at::TensorOptions stored = model.any_weight().options().requires_grad(false);
  const int64_t width = model.encoder->stack.config.hidden_size;
  context.latents.states_BSE = at::empty({1, offset, width}, int8 ? stored.dtype(at::kByte) : stored);
  if (int8) context.latents.scales_BS = at::empty({1, offset}, stored.dtype(at::kFloat));
  return context;
}

// Of each chunk the first one that equals it: itself where it is new.
std::vector<size_t> first_equal(std::span<const TextChunk> chunks) {
  const auto less = [](const std::vector<TokenId>* a, const std::vector<TokenId>* b) { return *a < *b; };
  std::map<const std::vector<TokenId>*, size_t, decltype(less)> seen(less);
  std::vector<size_t> first;
  for (size_t i = 0; i < chunks.size(); ++i) first.push_back(seen.emplace(&chunks[i].tokens, i).first->second);
  return first;
}

// Copies states of `from` to token `to` of the context.
void write(const Latents& from, const TokenRange& range, const Context& context, int64_t to) {
  const auto copy = [&](const at::Tensor& source, const at::Tensor& target) {
    if (target.defined()) target.narrow(1, to, range.count).copy_(source.narrow(1, range.first, range.count));
  };
  copy(from.states_BSE, context.latents.states_BSE);
  copy(from.scales_BS, context.latents.scales_BS);
}

// The same of states from outside.
void write_known(const Latents& known, const ContextChunk& chunk, const Context& context) {
  const at::Tensor& states = known.states_BSE;
  const at::Tensor& made = context.latents.states_BSE;
  require(states.dim() == 3 && states.size(0) == 1 && states.size(1) == chunk.length && states.size(2) == made.size(2),
          "{}: known states of a chunk should be 1 x {} x {}", chunk.source.document, chunk.length, made.size(2));
  require(states.scalar_type() == made.scalar_type() &&
              known.scales_BS.defined() == context.latents.scales_BS.defined() && !known.mask_BS.defined(),
          "{}: known states of a chunk should be in {} and without a mask, found {}", chunk.source.document,
          c10::toString(made.scalar_type()), c10::toString(states.scalar_type()));
  write(known, {0, chunk.length}, context, chunk.offset);
}

// Some chunks of the context without what stands between them.
PackedChunks packed(const Context& context, const std::vector<size_t>& numbers, const at::Device& device) {
  PackedChunks out;
  std::vector<int64_t> ids;
  for (const size_t number : numbers) {
    const ContextChunk& chunk = context.chunks[number];
    ids.insert(ids.end(), chunk.tokens.begin(), chunk.tokens.end());
    out.lengths.push_back(static_cast<int64_t>(chunk.tokens.size()));
  }
  out.ids_N = at::tensor(ids, at::kLong).to(device);
  return out;
}

// Writes the states of a group, which follow each other, to the places of its chunks; neighbours at once.
void write_group(const Latents& group, std::span<const size_t> numbers, const Context& context) {
  int64_t read = 0;
  for (size_t i = 0; i < numbers.size();) {
    TokenRange range{read, 0};
    size_t next = i;
    do {
      range.count += context.chunks[numbers[next]].length;
      ++next;
    } while (next < numbers.size() && numbers[next] == numbers[next - 1] + 1);
    write(group, range, context, context.chunks[numbers[i]].offset);
    read += range.count;
    i = next;
  }
}

// Encodes chunks of these numbers into their places.
void encode_into(const Cepe& model, const std::vector<size_t>& numbers, const ContextOptions& options,
                 const Context& context) {
  const PackedChunks all = packed(context, numbers, model.device());
  const int64_t most = group_tokens(model.device());
  int64_t start = 0;
  for (size_t first = 0, end = 0; first < numbers.size(); first = end) {
    int64_t tokens = 0;
    for (; end < numbers.size() && (end == first || tokens + all.lengths[end] <= most); ++end) {
      tokens += all.lengths[end];
    }
    const auto lengths = all.lengths.begin();
    Latents group =
        encode_packed(model, {all.ids_N.narrow(0, start, tokens),
                              {lengths + static_cast<int64_t>(first), lengths + static_cast<int64_t>(end)}});
    if (options.int8) group = quantize(group);
    write_group(group, std::span(numbers).subspan(first, end - first), context);
    start += tokens;
    if (options.progress) options.progress(static_cast<int64_t>(end - first));
  }
}

}  // namespace

int64_t context_chunk_length(const CepeConfig& config) {
  if (!config.encoder || encoder_window(*config.encoder) <= 0) return config.chunk_length;
  return std::min(config.chunk_length, encoder_window(*config.encoder));
}

Context encode_context(const Cepe& model, std::span<const TextChunk> chunks, const ContextOptions& options) {
  return encode_missing(model, chunks, {}, options);
}

Context encode_missing(const Cepe& model, std::span<const TextChunk> chunks, const KnownChunks& known,
                       const ContextOptions& options) {
  if (chunks.empty()) return {};
  check_chunks(model, chunks);
  const at::NoGradGuard no_gradients;
  const Context context = unwritten(model, chunks, options.int8);
  const std::vector<size_t> first = first_equal(chunks);
  std::vector<size_t> missing;
  for (size_t i = 0; i < chunks.size(); ++i) {
    if (first[i] != i) continue;
    const Latents found =
        known.find ? known.find(chunk_key(known.encoder, chunks[i].tokens), chunks[i].tokens) : Latents{};
    if (found.tokens() > 0)
      write_known(found, context.chunks[i], context);
    else
      missing.push_back(i);
  }
  if (const size_t done = chunks.size() - missing.size(); done > 0 && options.progress) {
    options.progress(static_cast<int64_t>(done));
  }
  if (!missing.empty()) encode_into(model, missing, options, context);
  for (size_t i = 0; i < chunks.size(); ++i) {
    const ContextChunk& source = context.chunks[first[i]];
    if (first[i] != i) write(context.latents, {source.offset, source.length}, context, context.chunks[i].offset);
  }
  return context;
}

Context encode_selected(const Cepe& model, const Context& context, std::span<const int64_t> chunks,
                        const ContextOptions& options) {
  std::vector<TextChunk> wanted;
  for (const int64_t number : chunks) {
    const ContextChunk& chunk = context.chunks.at(static_cast<size_t>(number));
    wanted.push_back({chunk.tokens, chunk.source});
  }
  return encode_context(model, wanted, options);
}

}  // namespace cepe
