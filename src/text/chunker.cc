#include "text/chunker.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"

namespace cepe {

int64_t Chunks::tokens() const { return std::accumulate(lengths.begin(), lengths.end(), int64_t{0}); }

void append_chunks(std::span<const TokenId> document, Chunks& chunks) {
  require(chunks.chunk_length > 0, "chunk length: expected a positive number of tokens, found {}", chunks.chunk_length);
  const size_t length = static_cast<size_t>(chunks.chunk_length);
  const size_t count = (document.size() + length - 1) / length;
  const size_t end = chunks.ids.size() + count * length;
  chunks.ids.reserve(end);
  chunks.ids.insert(chunks.ids.end(), document.begin(), document.end());
  chunks.ids.resize(end, Chunks::kPadding);
  for (size_t first = 0; first < document.size(); first += length) {
    chunks.lengths.push_back(static_cast<int64_t>(std::min(length, document.size() - first)));
  }
}

}  // namespace cepe
