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
  // The score of each passage, every different word of the query looked at; 0 without a common word. Thread-safe.
  std::vector<double> scores(std::string_view query) const;
  size_t size() const { return lengths_.size(); }

 private:
  struct Posting {
    uint32_t passage, count;
  };
  using Postings = std::vector<Posting>;
  // Of the query's different words, by their hashes ascending; words that no passage has are left out.
  std::vector<const Postings*> postings_of(std::string_view query) const;
  // Adds a word's part to the score of each passage that has it: add(passage, part).
  template <typename Add>
  void add_word(const Postings& postings, Add add) const;

  std::unordered_map<uint64_t, Postings> postings_;  // by the hash of the word in lower case
  std::vector<uint32_t> lengths_;
  uint64_t total_length_ = 0;
};

}  // namespace cepe
