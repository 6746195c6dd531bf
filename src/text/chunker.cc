#include "text/chunker.h"

#include <algorithm>

#include "base/error.h"

namespace cepe {

void append_chunks(std::span<const TokenId> document, const std::string& name, int64_t chunk_length,
                   std::vector<TextChunk>& chunks) {
  require(chunk_length > 0, "chunk length: expected a positive number of tokens, found {}", chunk_length);
  for (size_t first = 0; first < document.size(); first += static_cast<size_t>(chunk_length)) {
    const auto tokens = document.subspan(first, std::min(static_cast<size_t>(chunk_length), document.size() - first));
    chunks.push_back({{tokens.begin(), tokens.end()}, {name, static_cast<int64_t>(first)}});
  }
}

int64_t count_tokens(std::span<const TextChunk> chunks) {
  int64_t tokens = 0;
  for (const TextChunk& chunk : chunks) tokens += static_cast<int64_t>(chunk.tokens.size());
  return tokens;
}

}  // namespace cepe
