#include "text/bm25.h"

#include <algorithm>
#include <cmath>

#include "text/word_hashes.h"

namespace cepe {

void Bm25Index::add(std::string_view passage) {
  const auto number = static_cast<uint32_t>(lengths_.size());
  std::vector<uint64_t> words = word_hashes(passage);
  std::sort(words.begin(), words.end());
  for (auto word = words.begin(); word != words.end();) {
    const auto next = std::find_if(word, words.end(), [&](uint64_t other) { return other != *word; });
    postings_[*word].push_back({number, static_cast<uint32_t>(next - word)});
    word = next;
  }
  lengths_.push_back(static_cast<uint32_t>(words.size()));
  total_length_ += words.size();
}

std::vector<const Bm25Index::Postings*> Bm25Index::postings_of(std::string_view query) const {
  std::vector<uint64_t> words = word_hashes(query);
  std::sort(words.begin(), words.end());
  words.erase(std::unique(words.begin(), words.end()), words.end());
  std::vector<const Postings*> found;
  for (const uint64_t word : words) {
    if (const auto postings = postings_.find(word); postings != postings_.end()) found.push_back(&postings->second);
  }
  return found;
}

template <typename Add>
void Bm25Index::add_word(const Postings& postings, Add add) const {
  constexpr double kK1 = 1.2, kB = 0.75;
  const auto n = static_cast<double>(lengths_.size()), df = static_cast<double>(postings.size());
  const double mean_length = std::max(1.0, static_cast<double>(total_length_) / std::max(1.0, n));
  const double idf = std::log(1 + (n - df + 0.5) / (df + 0.5));
  for (const Posting& posting : postings) {
    const double tf = posting.count;
    const double norm = kK1 * (1 - kB + kB * static_cast<double>(lengths_[posting.passage]) / mean_length);
    add(posting.passage, idf * tf * (kK1 + 1) / (tf + norm));
  }
}

std::vector<double> Bm25Index::scores(std::string_view query) const {
  std::vector<double> scores(lengths_.size(), 0.0);
  for (const Postings* postings : postings_of(query)) {
    add_word(*postings, [&](uint32_t passage, double part) { scores[passage] += part; });
  }
  return scores;
}

std::vector<size_t> Bm25Index::search(std::string_view query, size_t count) const {
  const auto n = static_cast<double>(lengths_.size());
  std::vector<const Postings*> rare, common;
  for (const Postings* postings : postings_of(query)) {
    (static_cast<double>(postings->size()) > n / 10 ? common : rare).push_back(postings);
  }
  std::vector<double> scores(lengths_.size(), 0.0);
  for (const Postings* postings : rare.empty() ? common : rare) {
    add_word(*postings, [&](uint32_t passage, double part) { scores[passage] += part; });
  }
  std::vector<std::pair<double, size_t>> ranked;
  for (size_t passage = 0; passage < scores.size(); ++passage) {
    if (scores[passage] > 0) ranked.emplace_back(-scores[passage], passage);  // each common word adds more than 0
  }
  count = std::min(count, ranked.size());
  std::partial_sort(ranked.begin(), ranked.begin() + static_cast<std::ptrdiff_t>(count), ranked.end());
  std::vector<size_t> best;
  for (size_t i = 0; i < count; ++i) best.push_back(ranked[i].second);
  return best;
}

}  // namespace cepe
