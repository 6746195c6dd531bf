// BM25 over passages in memory (Robertson & Zaragoza 2009, "The probabilistic relevance framework": k1 1.2, b 0.75).
#pragma once

#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace cepe {

class Bm25Index {
 public:
  void add(std::string_view passage);  // its number is how many were added before
  // The passages with the highest scores, best first, ties by number; those without a common word are left out. Words
  // that stand in more than a tenth of the passages are not looked at where there are others. Thread-safe.
  std::vector<size_t> search(std::string_view query, size_t count) const;
  size_t size() const { return lengths_.size(); }

 private:
  struct Posting {
    uint32_t passage, count;
  };
  std::unordered_map<uint64_t, std::vector<Posting>> postings_;  // by the hash of the word in lower case
  std::vector<uint32_t> lengths_;
  uint64_t total_length_ = 0;
};

}  // namespace cepe
