// Searching an index of passages.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "retrieval/fts_words.h"
#include "retrieval/index_description.h"
#include "retrieval/sqlite.h"

namespace cepe {

struct Hit {
  int64_t slot = 0;
  double score = 0;  // higher is better
};

struct StoredPassage {
  std::string id, title, text;
};

// How vectors are searched: `exact` looks at all of them, `graph` follows the links of the index's graph, where it has
// one.
enum class VectorSearch { exact, graph };

// The index as it was when the reader was made, whatever is written meanwhile. One thread at a time.
class IndexReader {
 public:
  // Error where the directory is no index, or a file is missing, damaged or of a version that is not read.
  explicit IndexReader(const std::filesystem::path& index, VectorSearch search = VectorSearch::exact);

  const IndexDescription& description() const { return description_; }
  int64_t passages() const { return passages_; }

  // The passages with the highest BM25, best first, ties by slot; those without a word of the query are left out.
  // Robertson & Zaragoza 2009, k1 = 1.2, b = 0.75, as SQLite's FTS5 computes it: the sum over query_words()
  //   idf f (k1 + 1) / (f + k1 (1 - b + b length / mean length)),   idf = max(ln((N - n + 0.5) / (n + 0.5)), 1e-6),
  // f: how often the word stands in title and text, n: passages with the word. Words are runs of letters and digits;
  // any text is a query. Words that stand in half of the passages or more, whose idf is 1e-6, cost the most to look up
  // and weigh nothing: they are looked up where the others find fewer passages than asked for. Where the others stand
  // in more than 40,000 passages, the rarest of them, of as many passages at most but one word at least, find the 1,000
  // best, or three times as many as asked for; their scores are of all words.
  std::vector<Hit> search_words(std::string_view query, int64_t count) const;

  // For each row of queries_QD (float32, CPU) the passages with the highest inner product, best first, in float32.
  // Equal scores come by slot; which of them are among the last of `count` is open. With the graph nearly all of the
  // first are found: passages that it does not link yet are all looked at, and so is every passage where `count` is
  // more than an eighth of what it links. Error where the index has no vectors, and where a score is not finite.
  std::vector<std::vector<Hit>> search_vectors(const at::Tensor& queries_QD, int64_t count) const;

  StoredPassage passage(int64_t slot) const;

 private:
  bool map_vectors(VectorSearch search);
  // Of all passages from a slot on.
  std::vector<std::vector<Hit>> search_all(const at::Tensor& queries_QD, int64_t count, int64_t first_slot) const;
  std::vector<Hit> search_any_of(const std::vector<std::string>& words, int64_t count) const;
  struct QueryWord;
  std::vector<Hit> search_rarest(const std::vector<QueryWord>& words, int64_t count) const;
  void add_scores(const std::vector<QueryWord>& words, double mean_length, std::vector<Hit>& hits) const;

  std::filesystem::path index_;
  IndexDescription description_;
  Database database_;
  std::unique_ptr<Transaction> snapshot_;
  int64_t slots_ = 0, passages_ = 0;
  std::optional<MappedFile> vectors_;
  std::unique_ptr<VectorGraph> graph_;
  std::vector<int64_t> dead_;         // slots without a passage, ascending
  std::set<std::string> weightless_;  // words that are known to stand in half of the passages or more
  std::unique_ptr<FtsWords> fts_words_;
};

// The words of a query as FTS5's unicode61 tells them apart, each once.
std::vector<std::string> query_words(std::string_view query);

}  // namespace cepe
