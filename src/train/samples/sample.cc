#include "train/samples/sample.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

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

namespace {

// Returns how many tokens the decoder reads.
int64_t check_sample(const TokenShard& shard, int64_t index, const SampleLimits& limits) {
  const std::string& file = shard.path().native();
  int64_t chunks = 0, decoder = 0;
  for (const SamplePiece& piece : shard.pieces(static_cast<size_t>(index))) {
    require(!piece.context || piece.length <= limits.chunk_tokens,
            "{}: sample {} has a chunk of {} tokens, train.chunk_length is {}", file, index, piece.length,
            limits.chunk_tokens);
    const float weight = limits.factor * piece.weight;
    require(std::isfinite(weight) && (weight > 0 || piece.weight == 0),
            "{}: sample {} has the weight {}, which train.ask_weight = {} makes {}", file, index, piece.weight,
            limits.factor, weight);
    chunks += piece.context;
    if (!piece.context) decoder += piece.length;
  }
  require(chunks <= limits.context_tokens / limits.chunk_tokens,
          "{}: sample {} has {} chunks, which take {} tokens each (train.chunk_length), more than {} in all", file,
          index, chunks, limits.chunk_tokens, limits.context_tokens);
  require(decoder - 1 <= limits.positions, "{}: sample {}: the decoder would read {} tokens, its window holds {}", file,
          index, decoder - 1, limits.positions);
  return decoder - 1;
}

}  // namespace

int64_t check_samples(const Corpus& corpus, const SampleLimits& limits) {
  int64_t longest = 0;
  for (const Corpus::Document& document : corpus.documents) {
    const TokenShard& shard = corpus.shards[static_cast<size_t>(document.shard)];
    longest = std::max(longest, check_sample(shard, document.index, limits));
  }
  return longest;
}

}  // namespace cepe
