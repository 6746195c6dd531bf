// Which tokens a training sample is made of. No torch here.
//
// Two mixtures (method: "Training", stage 2): filtered takes all of a sample's tokens from one document; concatenated
// takes them from all documents joined in a random order. Every draw is a pure function of (seed, step, sample).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "train/shards.h"

namespace cepe {

// The documents of several shards.
struct Corpus {
  struct Document {
    int32_t shard = 0;
    int64_t offset = 0, length = 0;  // in the shard's tokens
    int32_t domain = 0;              // index into domains
  };
  std::vector<TokenShard> shards;
  std::vector<Document> documents;   // shard by shard
  std::vector<std::string> domains;  // in name order
  int64_t tokens = 0;
  int64_t longest = 0;       // tokens of the longest document
  uint64_t fingerprint = 0;  // of the tokenizer; 0: no shard knows it
  int64_t vocab_size = 0;    // of the tokenizer, the largest of the shards'
};
// Opens shards; a directory stands for the *.tokens files in it, in name order. Error when there is none, or when
// shards come from different tokenizers.
Corpus open_corpus(const std::vector<std::string>& paths);

struct SpanSamplerOptions {
  int64_t span_tokens = 0;                  // of a sample: context, decoder and one more for the last label
  double filtered = 1.0, concatenated = 0;  // shares of the two mixtures, in any unit
  // "papers=2": a token of that domain is drawn twice as often as one of a domain that is not named. 0 leaves it out.
  std::vector<std::string> domain_weights;
  std::optional<int32_t> only_domain;  // index into Corpus::domains
  uint64_t seed = 1;
};

class SpanSampler {
 public:
  // The corpus must outlive the sampler. Error when no document is long enough (filtered), the corpus is shorter
  // than a span (concatenated), or a weight names an unknown domain.
  SpanSampler(const Corpus& corpus, const SpanSamplerOptions& options);

  // Writes span_tokens ids to `out`; returns the document (index into Corpus::documents) that the span starts in.
  // Filtered: a document in proportion to its number of possible spans, then one of these. Concatenated: a token in
  // proportion to its domain's weight, then the tokens that follow it, running over into the next documents.
  int64_t draw(uint64_t step, uint64_t sample, int64_t* out) const;

  int64_t filtered_documents() const { return static_cast<int64_t>(filtered_.size()); }

 private:
  std::vector<double> parse_weights() const;
  void copy_concatenated(int64_t position, int64_t offset, int64_t* out) const;
  const TokenShard& shard(const Corpus::Document& document) const {
    return corpus_.shards[static_cast<size_t>(document.shard)];
  }

  const Corpus& corpus_;
  SpanSamplerOptions options_;
  double filtered_share_ = 1.0;
  std::vector<int64_t> filtered_;        // documents of at least a span
  std::vector<double> filtered_weight_;  // running sums
  std::vector<int64_t> order_;           // of the concatenation
  std::vector<double> order_weight_;     // running sums
};

}  // namespace cepe
