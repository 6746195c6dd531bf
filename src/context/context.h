// A context: what the encoder made of some chunks, and what the chunks are.
//
//   documents -> chunks (text/chunker.h) -> encode_context() -> Context -> decode(), Engine, perplexity
//
// A chunk's states depend on its own tokens and the encoder alone, not on what stands around it. So contexts are cut
// and joined at chunks without encoding anything again, in any order.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/cross_attention.h"

namespace cepe {

// Where a chunk comes from.
struct ChunkSource {
  std::string document;     // its name: "emma.txt", or "valid.jsonl:17" of a record
  int64_t first_token = 0;  // the chunk's first one, counted in the document
};

// One chunk of a context.
struct ContextChunk {
  int64_t offset = 0;  // of its first token in the latents
  int64_t length = 0;  // tokens
  ChunkSource source;
};

// Copies share the latents' memory. Immutable once made: threads may share one.
struct Context {
  Latents latents;                   // (1, S, E), without padding
  std::vector<ContextChunk> chunks;  // in the order of the latents; their lengths add up to S
  int64_t tokens() const { return latents.tokens(); }
};

}  // namespace cepe
