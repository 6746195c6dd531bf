#include "model/cepe.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <functional>
#include <numeric>

#include "base/error.h"
#include "model/layer/eager_layers.h"
#include "model/layer/layer_walk.h"
#include "ops/gemv/gemv.h"
#include "ops/gemv/quantised_weight.h"
#include "ops/ops.h"
#include "ops/pieces.h"

namespace cepe {
namespace {

at::Tensor embed_context(const Cepe& model, const at::Tensor& ids_BL) {
  const Encoder& encoder = *model.encoder;
  switch (model.config.encoder_embeddings) {
    case EncoderEmbeddings::own: return at::embedding(encoder.stack.embedding, ids_BL);
    case EncoderEmbeddings::decoder: return at::embedding(model.decoder.stack.embedding, ids_BL);
    case EncoderEmbeddings::decoder_projected:
      return encoder.embed_projection(at::embedding(model.decoder.stack.embedding, ids_BL));
  }
  return {};
}

// Tokens that are encoded together when no gradient is kept. On a GPU enough to fill it; their feed-forward part takes
// under a GB. On a CPU a piece of work of one thread, a fifth of a second of SmolLM2's encoder, where there is a piece
// for each; else so many that all threads have a share in each product.
int64_t tokens_at_once(const at::Device& device, int64_t tokens) {
  constexpr int64_t kOfGpu = 32768, kOfThread = 256, kOfCpu = 2048;
  if (device.is_cuda()) return kOfGpu;
  return tokens >= kOfThread * at::get_num_threads() ? kOfThread : kOfCpu;
}

// work(first, count) for `all` things, `at_once` at a time; on a CPU each thread takes the next ones when it is done,
// so that nobody waits for a slow one.
template <class Work>
void in_parts(const at::Device& device, int64_t all, int64_t at_once, const Work& work) {
  const int64_t parts = (all + at_once - 1) / at_once;
  const auto part = [&](int64_t i) { work(i * at_once, std::min(at_once, all - i * at_once)); };
  if (device.is_cpu() && parts >= at::get_num_threads()) return in_pieces(parts, part);
  for (int64_t i = 0; i < parts; ++i) part(i);
}

int64_t default_chunks_at_once(const at::Device& device, int64_t chunk_length, int64_t all) {
  if (at::GradMode::is_enabled()) return all;
  return std::max<int64_t>(1, tokens_at_once(device, all * chunk_length) / chunk_length);
}

at::Tensor encoder_layers(const Stack& stack, at::Tensor x_BLE, const RotaryTable& rotary, const AttentionMask& mask) {
  EagerLayers run(std::move(x_BLE), stack.config, rotary, mask);
  walk_eagerly(stack, 0, stack.layers.size(), run);
  return run.norm(stack.norm);
}

at::Tensor device_indices(const std::vector<int64_t>& indices, const at::Device& device) {
  return at::tensor(indices, at::kLong).to(device);
}

// Chunks in the order of their lengths, the longest first: equal ones lie side by side.
struct ChunkOrder {
  std::vector<int64_t> lengths;
  at::Tensor tokens_N;  // where each token of that order stands in the given one; undefined: there
};

ChunkOrder by_length(const PackedChunks& chunks) {
  const std::vector<int64_t>& given = chunks.lengths;
  if (std::is_sorted(given.begin(), given.end(), std::greater<>())) return {given, {}};
  std::vector<int64_t> starts(given.size(), 0), order(given.size()), tokens;
  std::partial_sum(given.begin(), given.end() - 1, starts.begin() + 1);
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return given[a] > given[b]; });
  ChunkOrder sorted;
  for (const int64_t chunk : order) {
    sorted.lengths.push_back(given[chunk]);
    for (int64_t t = 0; t < given[chunk]; ++t) tokens.push_back(starts[chunk] + t);
  }
  sorted.tokens_N = device_indices(tokens, chunks.ids_N.device());
  return sorted;
}

// The mean of each `pooling` neighbours, the last ones of a row fewer: (N, L, E) -> (N, ceil(L / pooling), E). Real
// ones alone count; real (N, L) bool, undefined: all are.
at::Tensor pooled(const at::Tensor& x_NLE, const at::Tensor& real_NL, int64_t pooling) {
  const int64_t N = x_NLE.size(0), L = x_NLE.size(1), E = x_NLE.size(2), runs = (L + pooling - 1) / pooling;
  const at::Tensor real = real_NL.defined() ? real_NL : at::ones({N, L}, x_NLE.options().dtype(at::kBool));
  const int64_t rest = runs * pooling - L;
  const at::Tensor counted = at::constant_pad_nd(real, {0, rest}).view({N, runs, pooling, 1});
  const at::Tensor x = at::constant_pad_nd(x_NLE, {0, 0, 0, rest}).view({N, runs, pooling, E});
  const at::ScalarType wide = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const at::Tensor sum = x.masked_fill(counted.logical_not(), 0).sum(2, /*keepdim=*/false, wide);
  return sum.div(counted.sum(2).clamp_min(1)).to(x.scalar_type());
}

// The same of packed chunks, (N, E) -> (sum of pooled lengths, E).
at::Tensor pooled_packed(const at::Tensor& x_NE, const std::vector<int64_t>& lengths, int64_t pooling) {
  std::vector<int64_t> members;  // `pooling` of each run, where it has fewer the first token, which does not count
  std::vector<uint8_t> real;
  int64_t start = 0;
  for (const int64_t length : lengths) {
    for (int64_t t = 0; t < (length + pooling - 1) / pooling * pooling; ++t) {
      members.push_back(t < length ? start + t : 0);
      real.push_back(t < length);
    }
    start += length;
  }
  const at::Tensor x = x_NE.index_select(0, device_indices(members, x_NE.device())).view({-1, pooling, x_NE.size(1)});
  const at::Tensor counted = at::tensor(real, at::kByte).to(at::kBool).to(x_NE.device()).view({-1, pooling});
  return pooled(x, counted, pooling).squeeze(1);
}

// Tokens of some chunks in the order of their lengths, (n) -> (n, E)
at::Tensor encode_row(const Cepe& model, const at::Tensor& ids_N, const std::vector<int64_t>& lengths) {
  const Stack& stack = model.encoder->stack;
  const int64_t E = stack.config.hidden_size, longest = lengths.front();
  if (lengths.back() == longest) {
    return encode_embedded(stack, embed_context(model, ids_N.view({-1, longest})), {}).view({-1, E});
  }
  std::vector<int64_t> positions;
  for (const int64_t length : lengths) {
    for (int64_t t = 0; t < length; ++t) positions.push_back(t);
  }
  const at::Tensor x = embed_context(model, ids_N.unsqueeze(0)), rows = device_indices(positions, x.device());
  const RotaryTable table = stack.rotary.table(stack.config, longest, x);
  const RotaryTable rotary{table.cos.index_select(0, rows), table.sin.index_select(0, rows)};
  const PackedSequences packed = pack_sequences(lengths, x.device());
  return encoder_layers(stack, x, rotary, {.packed = &packed}).view({-1, E});
}

void check_packed(const Cepe& model, const PackedChunks& chunks) {
  require(model.encoder.has_value(), "this model has no encoder: it is a plain decoder and cannot read a context");
  int64_t total = 0;
  const int64_t window = encoder_window(model.encoder->stack.config);
  for (const int64_t length : chunks.lengths) {
    require(length >= 1 && length <= window, "encode: a chunk of {} tokens, the encoder's window holds 1 to {}", length,
            window);
    total += length;
  }
  const int64_t given = chunks.ids_N.defined() ? chunks.ids_N.numel() : 0;
  require(given == total && (given == 0 || chunks.ids_N.dim() == 1),
          "encode: packed chunks of {} tokens in all, found {} token ids", total, given);
}

size_t layers_below_context(const Stack& decoder) {
  size_t i = 0;
  while (i < decoder.layers.size() && !decoder.layers[i].cross_attention) ++i;
  return i;
}

// A decoder is trained whole or not at all: of one that is frozen, the layers below the context give no gradient and
// record nothing.
void walk_lower_layers(const Stack& stack, size_t count, EagerDecoderLayers& run) {
  const bool trained = run.residual().requires_grad() || stack.norm.requires_grad();
  const at::AutoGradMode recorded(at::GradMode::is_enabled() && trained);
  walk_eagerly(stack, 0, count, run);
}

// Beyond it each token would attend to its neighbours alone: attention here is to all.
void check_sliding_window(const StackConfig& config, int64_t tokens) {
  require(config.sliding_window == 0 || tokens <= config.sliding_window,
          "decode: {} tokens exceed the window of {} over which the decoder's attention slides: cepe computes no such "
          "mask",
          tokens, config.sliding_window);
}

// Chunks that are encoded together, in the order of their lengths.
struct EncodedRow {
  std::vector<int64_t> lengths;
  int64_t start = 0, tokens = 0;
};

std::vector<EncodedRow> encoded_rows(const std::vector<int64_t>& lengths, const at::Device& device,
                                     const ContextEncodeOptions& options) {
  const size_t most = options.chunks_at_once > 0 ? static_cast<size_t>(options.chunks_at_once) : lengths.size();
  const bool bounded = options.chunks_at_once == 0 && !at::GradMode::is_enabled();
  const int64_t at_once = tokens_at_once(device, std::accumulate(lengths.begin(), lengths.end(), int64_t{0}));
  std::vector<EncodedRow> rows;
  for (size_t chunk = 0; chunk < lengths.size();) {
    EncodedRow row;
    if (!rows.empty()) row.start = rows.back().start + rows.back().tokens;
    for (; chunk < lengths.size() && row.lengths.size() < most; ++chunk) {
      if (bounded && row.tokens > 0 && row.tokens + lengths[chunk] > at_once) break;
      row.lengths.push_back(lengths[chunk]);
      row.tokens += lengths[chunk];
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

// (N, E) in the order of the chunks, before pooling.
at::Tensor packed_states(const Cepe& model, const PackedChunks& chunks, const ContextEncodeOptions& options) {
  const ChunkOrder order = by_length(chunks);
  const at::Tensor ids = order.tokens_N.defined() ? chunks.ids_N.index_select(0, order.tokens_N) : chunks.ids_N;
  const std::vector<EncodedRow> rows = encoded_rows(order.lengths, ids.device(), options);
  const auto encoded = [&](const EncodedRow& row) {
    return encode_row(model, ids.narrow(0, row.start, row.tokens), row.lengths);
  };
  if (rows.size() == 1 && !order.tokens_N.defined()) return encoded(rows[0]);
  at::Tensor states;  // (N, E), held once
  const auto write = [&](const EncodedRow& row) {
    const at::Tensor part = encoded(row);
    if (order.tokens_N.defined()) {
      states.index_copy_(0, order.tokens_N.narrow(0, row.start, row.tokens), part);
    } else {
      states.narrow(0, row.start, row.tokens).copy_(part);
    }
  };
  const Stack& stack = model.encoder->stack;
  states = at::empty({ids.numel(), stack.config.hidden_size}, model.any_weight().options().requires_grad(false));
  if (at::GradMode::is_enabled()) {
    for (const EncodedRow& row : rows) write(row);
    return states;
  }
  in_parts(ids.device(), static_cast<int64_t>(rows.size()), 1,
           [&](int64_t i, int64_t) { write(rows[static_cast<size_t>(i)]); });
  return states;
}

}  // namespace

at::Tensor encode_embedded(const Stack& stack, at::Tensor x_BLE, const at::Tensor& mask_BL) {
  const RotaryTable rotary = stack.rotary.table(stack.config, x_BLE.size(1), x_BLE);
  return encoder_layers(stack, std::move(x_BLE), rotary, {false, mask_BL});
}

Latents encode_packed(const Cepe& model, const PackedChunks& chunks, const ContextEncodeOptions& options) {
  check_packed(model, chunks);
  if (chunks.lengths.empty()) return {};
  const at::Tensor states = packed_states(model, chunks, options);
  const int64_t pooling = model.config.decoder.cross.pooling;
  return {.states_BSE = (pooling > 1 ? pooled_packed(states, chunks.lengths, pooling) : states).unsqueeze(0)};
}

at::Tensor states_mask(const Cepe& model, const at::Tensor& mask_BML) {
  const int64_t B = mask_BML.size(0), M = mask_BML.size(1), L = mask_BML.size(2);
  const int64_t pooling = model.config.decoder.cross.pooling;
  if (pooling == 1) return mask_BML.reshape({B, M * L});
  const int64_t runs = pooled_length(model.config.decoder.cross, L);
  const at::Tensor whole = at::constant_pad_nd(mask_BML, {0, runs * pooling - L});
  return whole.reshape({B, M * runs, pooling}).any(-1);
}

Latents encode(const Cepe& model, const ContextChunks& chunks, const ContextEncodeOptions& options) {
  require(model.encoder.has_value(), "this model has no encoder: it is a plain decoder and cannot read a context");
  const at::Tensor& ids = chunks.ids_BML;
  require(ids.dim() == 3, "encode: chunks should be (batch, chunks, length), found {} dimensions", ids.dim());
  const int64_t B = ids.size(0), M = ids.size(1), L = ids.size(2);
  const Stack& stack = model.encoder->stack;
  require(L <= encoder_window(stack.config), "encode: a chunk of {} tokens exceeds the encoder's window of {}", L,
          encoder_window(stack.config));
  Latents out;
  if (chunks.mask_BML.defined()) out.mask_BS = states_mask(model, chunks.mask_BML);
  if (M == 0) return out;
  const int64_t pooling = model.config.decoder.cross.pooling, S = M * pooled_length(model.config.decoder.cross, L);

  const at::Tensor rows = ids.reshape({B * M, L});
  const at::Tensor mask = chunks.mask_BML.defined() ? chunks.mask_BML.reshape({B * M, L}) : at::Tensor();
  const int64_t at_once =
      options.chunks_at_once > 0 ? options.chunks_at_once : default_chunks_at_once(ids.device(), L, B * M);
  const auto part = [&](int64_t start, int64_t n) {
    const at::Tensor real = mask.defined() ? mask.narrow(0, start, n) : mask;
    const at::Tensor states = encode_embedded(stack, embed_context(model, rows.narrow(0, start, n)), real);
    return pooling > 1 ? pooled(states, real, pooling) : states;
  };
  if (at_once >= B * M) {
    out.states_BSE = part(0, B * M).view({B, S, stack.config.hidden_size});
    return out;
  }
  if (at::GradMode::is_enabled()) {
    std::vector<at::Tensor> parts;
    for (int64_t start = 0; start < B * M; start += at_once) {
      parts.push_back(part(start, std::min(at_once, B * M - start)));
    }
    out.states_BSE = at::cat(parts).view({B, S, stack.config.hidden_size});
    return out;
  }
  // Written into place: the latents are held once.
  const at::Tensor states = at::empty({B * M, S / M, stack.config.hidden_size}, model.any_weight().options());
  in_parts(ids.device(), B * M, at_once,
           [&](int64_t start, int64_t n) { states.narrow(0, start, n).copy_(part(start, n)); });
  out.states_BSE = states.view({B, S, stack.config.hidden_size});
  return out;
}

at::Tensor decode_below(const Cepe& model, const at::Tensor& ids_BT) {
  const Stack& stack = model.decoder.stack;
  check_sliding_window(stack.config, ids_BT.size(1));
  const at::Tensor x = at::embedding(stack.embedding, ids_BT);
  const RotaryTable rotary = stack.rotary.table(stack.config, ids_BT.size(1), x);
  EagerLayers run(x, stack.config, rotary, {.causal = true});
  walk_layers(stack, 0, layers_below_context(stack), run);
  return run.residual();
}

at::Tensor decode(const Cepe& model, const DecodeInput& input) {
  const Stack& stack = model.decoder.stack;
  require(input.ids_BT.dim() == 2 && input.ids_BT.size(1) > 0,
          "decode: expected token ids (batch, tokens), found none");
  const int64_t first = input.cache ? input.cache->length : 0, T = input.ids_BT.size(1);
  const bool below = input.below_BTD.defined();
  check_sliding_window(stack.config, first + T);
  require(input.last >= 0 && input.last <= T, "decode: the states of the last {} of {} tokens are asked for",
          input.last, T);
  require(!below || !input.cache, "decode: states of the lower layers and a key-value cache exclude each other");
  at::Tensor x = below ? input.below_BTD : at::embedding(stack.embedding, input.ids_BT);
  require(x.size(0) == input.ids_BT.size(0) && x.size(1) == T,
          "decode: states of the lower layers for {} x {} tokens, there are {} x {}", x.size(0), x.size(1),
          input.ids_BT.size(0), T);
  const RotaryTable rotary = stack.rotary.table(stack.config, first + T, x);
  EagerDecoderLayers run(std::move(x), stack, rotary,
                         {.context = input.context,
                          .form = input.form,
                          .block_tokens = input.block_tokens,
                          .mass = input.mass,
                          .context_queries = input.context_queries,
                          .cache = input.cache,
                          .last = input.last});
  const size_t lower = layers_below_context(stack);
  if (!below) walk_lower_layers(stack, lower, run);
  walk_eagerly(stack, lower, stack.layers.size(), run);
  if (input.cache) input.cache->length += T;
  if (input.last == 0) return run.norm(stack.norm);
  x = run.residual();
  return rms_norm(x.narrow(1, x.size(1) - input.last, input.last), stack.norm, stack.config.rms_norm_eps);
}

at::Tensor head_weight(const Cepe& model) {
  const Decoder& decoder = model.decoder;
  return decoder.quantised_head ? dequantise_weight(*decoder.quantised_head, model.dtype()) : decoder.lm_head;
}

at::Tensor logits(const Cepe& model, const at::Tensor& hidden) { return gemv(hidden, model.decoder.head()); }

}  // namespace cepe
