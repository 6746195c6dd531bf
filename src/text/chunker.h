// The chunks of a context: the encoder reads each by itself.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "text/tokenizer/tokenizer.h"

namespace cepe {

// Where a chunk comes from.
struct ChunkSource {
  std::string document;     // its name: "emma.txt", or "valid.jsonl:17" of a record
  int64_t first_token = 0;  // the chunk's first one, counted in the document
};

struct TextChunk {
  std::vector<TokenId> tokens;  // at least one
  ChunkSource source = {};
};

// Appends a document's chunks of `chunk_length` tokens; the last one holds what is left. Documents share no chunk, so
// that a chunk's states depend on its own document alone. No tokens add no chunk. Throws Error when chunk_length is not
// positive.
void append_chunks(std::span<const TokenId> document, const std::string& name, int64_t chunk_length,
                   std::vector<TextChunk>& chunks);

// Tokens of all chunks.
int64_t count_tokens(std::span<const TextChunk> chunks);

}  // namespace cepe
