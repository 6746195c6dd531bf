// Names for the states of chunks: equal keys, equal states. What keeps states from one request or run to another finds
// them by key.
//
// A key is a hash of what made the states and of the tokens that were read. A chunk's states depend on nothing else, so
// a key has no parent and no place: the same chunk has one key in every context. The tokenizer is no part of it, for
// the key is of tokens, not of text.
//
// Format: SHA-256 over fields; a field is its tag and its value, each after its length in bytes (8 bytes,
// little-endian; token ids are 4 bytes each, little-endian). So no two lists of fields are the same bytes.
// tests/golden/context/record.py computes keys independently.
#pragma once

#include <compare>
#include <functional>
#include <span>
#include <string>

#include "base/file.h"
#include "model/cepe.h"
#include "text/tokenizer/tokenizer.h"

namespace cepe {

// What made states: an encoder, and the type that the states are held in.
struct ModelFingerprint {
  Sha256Digest bytes = {};
  auto operator<=>(const ModelFingerprint&) const = default;
};

struct ChunkKey {
  Sha256Digest bytes = {};
  auto operator<=>(const ChunkKey&) const = default;
};

// A hash of all that the encoder's states depend on: its configuration, names, types, shapes and bytes of its weights
// and of the embedding that it reads with, and the type that the states are held in (int8: 8 bits, ContextOptions). The
// decoder's other weights and cross-attention are no part of it. Equal whenever the same model is opened in the same
// type. It reads all these weights: about a second for 2 GB. Error when the model has no encoder.
ModelFingerprint encoder_fingerprint(const Cepe& model, bool int8 = false);

// The key of a chunk's states. Fields: "cepe chunk" = "1", "encoder" = the fingerprint, "tokens".
ChunkKey chunk_key(const ModelFingerprint& encoder, std::span<const TokenId> tokens);

}  // namespace cepe

// Any bytes of a hash are a hash.
template <>
struct std::hash<cepe::ChunkKey> {
  size_t operator()(const cepe::ChunkKey& key) const noexcept;
};
