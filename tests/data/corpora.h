// Small corpora for the tests of training.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "data/shards.h"

namespace cepe {

// A shard of documents of the given lengths, one domain after the other. Token t of document d is
// (7 d + t) % vocabulary, so that a place in the corpus can be told from its tokens.
struct CorpusPlan {
  int64_t vocabulary = 100;
  std::vector<int64_t> lengths;
  std::vector<std::string> domains = {"text"};  // of document d: domains[d % size]
};

inline TokenId planned_token(const CorpusPlan& plan, int64_t document, int64_t position) {
  return static_cast<TokenId>((7 * document + position) % plan.vocabulary);
}

inline void write_corpus(const std::filesystem::path& path, const CorpusPlan& plan) {
  ShardWriter writer(path, {plan.vocabulary, 0});
  for (size_t d = 0; d < plan.lengths.size(); ++d) {
    std::vector<TokenId> tokens;
    for (int64_t t = 0; t < plan.lengths[d]; ++t) tokens.push_back(planned_token(plan, static_cast<int64_t>(d), t));
    writer.add(tokens, plan.domains[d % plan.domains.size()]);
  }
  writer.commit();
}

}  // namespace cepe
