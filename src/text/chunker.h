// The chunks of a context: the encoder reads each by itself.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "text/tokenizer/tokenizer.h"

namespace cepe {

// Tokens cut into chunks of one length; a chunk that a document's end leaves unfilled is padded at its end.
struct Chunks {
  int64_t chunk_length = 0;      // L, > 0
  std::vector<TokenId> ids;      // (M, L), row-major; padding is kPadding
  std::vector<int64_t> lengths;  // (M): the real tokens at the start of each chunk, 1..L

  static constexpr TokenId kPadding = 0;  // any id of the vocabulary: the mask keeps it from being read
  int64_t count() const { return static_cast<int64_t>(lengths.size()); }
  int64_t tokens() const;  // real ones
};

// Appends the chunks of one document. Documents share no chunk, so that a chunk's encoding depends on its own document
// alone. No tokens add no chunk. Throws Error when chunk_length is not positive.
void append_chunks(std::span<const TokenId> document, Chunks& chunks);

}  // namespace cepe
