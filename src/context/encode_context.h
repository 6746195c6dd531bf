// From chunks to a context: the encoder's work, of which nothing is done twice.
#pragma once

#include <functional>
#include <span>

#include "context/chunk_key.h"
#include "context/context.h"
#include "model/cepe.h"

namespace cepe {

// The length of the chunks that a model's encoder reads: as trained, within its window.
int64_t context_chunk_length(const CepeConfig& config);

struct ContextOptions {
  bool int8 = false;  // states in 8 bits a number: half of bfloat16's memory (model/cross_attention.h)
  std::function<void(int64_t)> progress;  // called with the chunks done since its last call; may be empty
};

// The states of chunks that were encoded before.
struct KnownChunks {
  ModelFingerprint encoder;  // encoder_fingerprint() of the model that reads, and of the options' int8
  // The states of a chunk, (1, its tokens, E), as encode_context() made them, on any device; without tokens where the
  // chunk is not known. Asked once for each different chunk, in the order of the chunks.
  std::function<Latents(const ChunkKey& key, std::span<const TokenId> tokens)> find;
};

// The encoder's states of the chunks, in their order, in the model's type or in 8 bits, on the model's device. Equal
// chunks are encoded once. The states are held once, however long the context is. No gradients. Progress comes dozens
// of times for a book. Error when the model has no encoder, a chunk is empty or longer than the encoder's window, or a
// token lies outside the vocabulary.
Context encode_context(const Cepe& model, std::span<const TextChunk> chunks, const ContextOptions& options = {});

// The same where the states of some chunks are known: only the missing ones are encoded, packed together. The states
// are those of encode_context() up to rounding, which may depend on what is encoded together. Error, beside those
// above, where known states are not of the chunk's length or not of the kind that is made here.
Context encode_missing(const Cepe& model, std::span<const TextChunk> chunks, const KnownChunks& known,
                       const ContextOptions& options = {});

// The states of a context's chunks of these numbers, in this order, as encode_context() makes them.
Context encode_selected(const Cepe& model, const Context& context, std::span<const int64_t> chunks,
                        const ContextOptions& options = {});

}  // namespace cepe
