#include "train/samples/sample.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"

namespace cepe {

int64_t Sample::context_tokens() const { return std::accumulate(chunks.begin(), chunks.end(), int64_t{0}); }

Sample read_sample(const Corpus& corpus, int64_t document, float factor) {
  const Corpus::Document& found = corpus.documents[static_cast<size_t>(document)];
  const TokenShard& shard = corpus.shards[static_cast<size_t>(found.shard)];
  Sample sample;
  sample.tokens.resize(static_cast<size_t>(found.length));
  shard.read(found.offset, found.length, sample.tokens.data());
  for (const SamplePiece& piece : shard.pieces(static_cast<size_t>(found.index))) {
    if (piece.context) {
      sample.chunks.push_back(piece.length);
    } else {
      sample.weights.insert(sample.weights.end(), static_cast<size_t>(piece.length), factor * piece.weight);
    }
  }
  sample.weights.erase(sample.weights.begin());  // of the decoder's first token, which is never predicted
  return sample;
}

int64_t check_samples(const Corpus& corpus, const SampleLimits& limits) {
  int64_t longest = 0;
  for (const Corpus::Document& document : corpus.documents) {
    const TokenShard& shard = corpus.shards[static_cast<size_t>(document.shard)];
    int64_t decoder = 0;
    for (const SamplePiece& piece : shard.pieces(static_cast<size_t>(document.index))) {
      require(!piece.context || piece.length <= limits.chunk_tokens,
              "{}: sample {} has a chunk of {} tokens, train.chunk_length is {}", shard.path().string(), document.index,
              piece.length, limits.chunk_tokens);
      if (!piece.context) decoder += piece.length;
    }
    require(decoder - 1 <= limits.positions,
            "{}: sample {} has {} tokens for the decoder, of whose window of {} the last needs no place",
            shard.path().string(), document.index, decoder, limits.positions);
    longest = std::max(longest, decoder - 1);
  }
  return longest;
}

}  // namespace cepe
