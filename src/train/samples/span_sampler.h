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

#include "data/shards.h"

namespace cepe {

class KeyedRandom;

// The documents of several shards.
struct Corpus {
  struct Document {
    int32_t shard = 0;
    int64_t offset = 0, length = 0;  // in the shard's tokens
    int32_t domain = 0;              // index into domains
    int64_t index = 0;               // in its shard
  };
  std::vector<TokenShard> shards;
  std::vector<Document> documents;   // shard by shard
  std::vector<std::string> domains;  // in name order
  int64_t tokens = 0;
  uint64_t fingerprint = 0;  // of the tokenizer; 0: no shard knows it
  int64_t vocab_size = 0;    // of the tokenizer, the largest of the shards'
};
// Opens shards; a directory stands for the *.tokens files in it, in name order. Error when there is none, when one is
// of the other kind, or when shards come from different tokenizers.
Corpus open_corpus(const std::vector<std::string>& paths, ShardKind kind = ShardKind::documents);

// How many of `held_out`'s documents `trained` holds as well, token for token, wherever they stand.
int64_t shared_documents(const Corpus& held_out, const Corpus& trained);

// "papers=2": the weight of a domain, 1 where it is not named; for each of the corpus's domains. Error naming `where`
// on an unknown domain, one that is named twice and a weight that is none.
std::vector<double> weights_of_domains(const Corpus& corpus, const std::vector<std::string>& entries,
                                       const std::string& where);

struct SpanSamplerOptions {
  int64_t span_tokens = 0;                  // of a sample: context, decoder and one more for the last label
  double filtered = 1.0, concatenated = 0;  // shares of the two mixtures, in any unit
  // "papers=2": a token of that domain is drawn twice as often as one of a domain that is not named. 0 leaves it out.
  // A domain may be named once.
  std::vector<std::string> domain_weights;
  std::optional<int32_t> only_domain;  // index into Corpus::domains
  uint64_t seed = 1;
};

class SpanSampler {
 public:
  // The corpus must outlive the sampler. Error when no document of a weight above 0 is long enough (filtered), those
  // documents are together shorter than a span (concatenated), or a weight names an unknown domain.
  SpanSampler(const Corpus& corpus, const SpanSamplerOptions& options);

  // Writes span_tokens ids to `out`; returns the document (index into Corpus::documents) that the span starts in.
  // Filtered: a document in proportion to its weight times its number of possible spans, then one of these.
  // Concatenated: a token in proportion to its domain's weight, then the tokens that follow it, running over into the
  // next documents of the order, each of which is entered with the probability weight / largest weight. This is a
  // window of the endless text in which every round through the documents holds each with that probability, so that
  // at every place of a span a domain's share is its tokens times its weight. Equal weights enter every document.
  int64_t draw(uint64_t step, uint64_t sample, int64_t* out) const;

  int64_t filtered_documents() const { return static_cast<int64_t>(filtered_.size()); }

 private:
  std::vector<double> parse_weights() const;
  void make_order(const std::vector<double>& weights);
  void copy_concatenated(size_t position, int64_t offset, KeyedRandom& random, int64_t* out) const;
  const TokenShard& shard(const Corpus::Document& document) const {
    return corpus_.shards[static_cast<size_t>(document.shard)];
  }

  const Corpus& corpus_;
  SpanSamplerOptions options_;
  double filtered_share_ = 1.0;
  std::vector<int64_t> filtered_;        // documents of at least a span
  std::vector<double> filtered_weight_;  // running sums
  std::vector<int64_t> order_;           // of the concatenation: documents of a weight above 0
  std::vector<double> order_weight_;     // running sums
  std::vector<double> domain_share_;     // weight / largest weight
};

}  // namespace cepe
