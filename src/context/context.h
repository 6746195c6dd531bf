// A context: what the encoder made of some chunks, and what the chunks are.
//
//   documents -> chunks (text/chunker.h) -> encode_context() -> Context -> decode(), Engine, perplexity
//
// A chunk's states depend on its own tokens and the encoder alone, not on what stands around it. So contexts are cut
// and joined at chunks without encoding anything again, in any order.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/cross_attention.h"
#include "text/chunker.h"

namespace cepe {

// One chunk of a context.
struct ContextChunk {
  int64_t offset = 0;  // of its first state in the latents
  int64_t length = 0;  // states: as many as tokens, or fewer that are means (pooling of cross_variants.h)
  ChunkSource source = {};
  std::vector<TokenId> tokens = {};  // what the encoder read
};

// Copies share the latents' memory. Immutable once made: threads may share one.
struct Context {
  Latents latents;  // (1, S, E), without padding
  // In the order of the latents; their lengths add up to S. Without states: numbers of tokens, before any pooling.
  std::vector<ContextChunk> chunks;
  int64_t tokens() const { return latents.tokens(); }  // S; 0 where there are no states
  // Whether the states are there. Chunks alone (unencoded()) are a context to look for words in.
  bool encoded() const { return latents.states_BSE.defined(); }
};

// What a context is to have of states.
enum class ContextStates {
  stored,  // in the model's type
  int8,    // 8 bits a number (quantise())
  none,    // they are made later: unencoded()
};

// Chunks whose states are not there: select(), join() and the search of generate/expand.h take such a context; nothing
// reads it before encode_selected() (context/encode_context.h) has made its states.
Context unencoded(std::vector<TextChunk> chunks);

// The tokens that the encoder reads, or has read, of all chunks.
int64_t encoder_tokens(const Context& context);

// Contexts one after another. Those without chunks are passed over. The states are copied, unless one context alone has
// chunks: then it is returned as it is. Kept keys and values are left behind where states are copied. Error where the
// contexts differ in width, type or device, or only some are encoded.
Context join(std::span<const Context> contexts);

// The chunks of these numbers, in this order: to drop some, shuffle them, or keep those that a search has found. A
// number may come several times. Chunks that stand side by side in the context already are a view of its memory, which
// lives as long as the view; others are copied. Kept keys and values are left behind, unless all chunks are taken in
// their order. Error on a number outside the context.
Context select(const Context& context, std::span<const int64_t> chunks);

// The states in 8 bits a number (quantize() of model/cross_attention.h): E + 4 bytes a token. As it is where they are
// that already. Kept keys and values are left behind.
Context quantise(const Context& context);

// Where the chunks lie, on the latents' device, for AttentionMass. Error on a context without tokens.
ChunkBounds chunk_bounds(const Context& context);

// Tokens first .. first + count of latents.
struct TokenRange {
  int64_t first = 0, count = 0;
};
// What select() does with the states: these tokens of each of the B contexts, one range after another, (B, sum, E). No
// kept keys and values.
Latents select_tokens(const Latents& latents, std::span<const TokenRange> ranges);

}  // namespace cepe
