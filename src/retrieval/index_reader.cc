#include "retrieval/index_reader.h"

#include <ATen/ATen.h>
#include <utf8proc.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "base/error.h"
#include "text/utf8.h"

// Q queries, N slots of a block, D width.
namespace cepe {
namespace {

constexpr int64_t kBlock = 32768;  // slots whose scores are in memory at once
constexpr int64_t kQueries = 64;   // queries that a block is read for
// Followed at once in the graph: docs/retrieval.md has what more and fewer find.
constexpr int64_t kCandidates = 200;
// FTS5 scores a million passages in about a second.
constexpr int64_t kLookedUp = 40'000;   // passages that the words of a query stand in together
constexpr int64_t kScoredWhole = 1000;  // of those that the rarest words find, passages whose scores are of all words

// unicode61's token characters: letters, numbers, private use; marks go on a word that has begun.
bool is_word(char32_t c, bool begun) {
  if (c < 0x80) return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
    case UTF8PROC_CATEGORY_CO: return true;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC: return begun;
    default: return false;
  }
}

Database open_for_reading(const std::filesystem::path& index) {
  const std::filesystem::path file = passages_file(index);
  std::error_code error;
  require(std::filesystem::exists(file, error), "{}: the index has no such file", file.string());
  Database database(file, Database::Access::read);
  require(database.integer("PRAGMA application_id") == 1667592293 && database.integer("PRAGMA user_version") == 1,
          "{}: not the database of an index of version 1", file.string());
  return database;
}

// Words in double quotes are never FTS5 syntax; none holds a quote.
std::string any_of(const std::vector<std::string>& words) {
  std::string expression;
  for (const std::string& word : words) {
    expression += fmt::format("{}\"{}\"", expression.empty() ? "" : " OR ", word);
  }
  return expression;
}

// False where the file is gone, or goes while it is opened.
bool open_if_there(const std::filesystem::path& file, const std::function<void()>& open) {
  std::error_code error;
  if (!std::filesystem::exists(file, error)) return false;
  try {
    open();
  } catch (const Error&) {
    if (std::filesystem::exists(file, error)) throw;
    return false;
  }
  return true;
}

void keep_best(std::vector<Hit>& hits, int64_t count) {
  std::sort(hits.begin(), hits.end(),
            [](const Hit& a, const Hit& b) { return a.score != b.score ? a.score > b.score : a.slot < b.slot; });
  if (static_cast<int64_t>(hits.size()) > count) hits.resize(static_cast<size_t>(count));
}

}  // namespace

std::vector<std::string> query_words(std::string_view query) {
  require_utf8(query);
  std::vector<std::string> words;
  std::set<std::string> seen;
  std::string word;
  const auto end_word = [&] {
    if (!word.empty() && seen.insert(lower_case(word)).second) words.push_back(word);
    word.clear();
  };
  for (size_t at = 0; at < query.size();) {
    const CodePoint c = code_point_at(query, at);
    if (is_word(c.value, !word.empty())) {
      word += query.substr(at, c.size);
    } else {
      end_word();
    }
    at += c.size;
  }
  end_word();
  return words;
}

IndexReader::IndexReader(const std::filesystem::path& index, VectorSearch search)
    : index_(index), description_(read_description(index)), database_(open_for_reading(index)) {
  // Between the state and the file that it names a compaction may end: the next look sees its result.
  for (int attempt = 0; !map_vectors(search); ++attempt) {
    require(attempt < 3, "{}: the vectors of the index are missing{}", index.string(),
            description_.graph ? ", or their graph is" : "");
  }
  passages_ = database_.integer("SELECT count(*) FROM passages");
  Statement dead(database_, "SELECT slot FROM dead ORDER BY slot");
  while (dead.step()) dead_.push_back(dead.integer(0));
  for (const int64_t slot : dead_) {
    if (graph_ && slot < graph_->rows()) graph_->forget(slot);
  }
  // Counted at the last build or compaction. Since then each deleted passage may have taken one away: what still stands
  // in half of today's passages after that does so whatever was added, and need not be counted.
  Statement common(database_, "SELECT word FROM common WHERE 2 * (passages - ?1) >= ?2");
  common.bind(static_cast<int64_t>(dead_.size()), passages_);
  while (common.step()) weightless_.insert(common.text(0));
  fts_words_ = std::make_unique<FtsWords>(database_, description_.words);
}

bool IndexReader::map_vectors(VectorSearch search) {
  snapshot_.reset();
  snapshot_ = std::make_unique<Transaction>(database_, false);
  slots_ = slots_of(database_, index_);
  const int64_t generation = database_.integer("SELECT value FROM state WHERE name = 'generation'");
  if (description_.width == 0) return true;
  const std::filesystem::path file = vectors_file(index_, generation);
  const bool mapped = open_if_there(file, [&] {
    vectors_.emplace(file);
    check_vectors(*vectors_, description_.width, slots_);
  });
  if (!mapped || !description_.graph || search == VectorSearch::exact) return mapped;
  const std::filesystem::path links = graph_file(index_, generation);
  return open_if_there(links, [&] {
    graph_ = std::make_unique<VectorGraph>(links, recorded_graph(database_, index_, generation), *description_.graph,
                                           vector_rows(*vectors_, description_.width, slots_));
  });
}

struct IndexReader::QueryWord {
  std::string word;      // as the query has it
  std::string term;      // as the index has it
  int64_t passages = 0;  // that it stands in
};

std::vector<Hit> IndexReader::search_words(std::string_view query, int64_t count) const {
  const std::vector<std::string> words = query_words(query);
  std::vector<QueryWord> weighty;
  int64_t looked_up = 0;
  for (const std::string& word : words) {
    std::vector<std::string> terms = fts_words_->of(word);
    QueryWord one{word, terms.empty() ? "" : std::move(terms[0]), 0};
    if (weightless_.contains(one.term)) continue;
    one.passages = fts_words_->passages_with(one.term);
    if (2 * one.passages >= passages_) continue;
    looked_up += one.passages;
    weighty.push_back(std::move(one));
  }
  if (looked_up > kLookedUp && weighty.size() > 1) {
    std::vector<Hit> hits = search_rarest(weighty, count);
    if (static_cast<int64_t>(hits.size()) == count) return hits;
  }
  std::vector<std::string> found_by;
  for (const QueryWord& one : weighty) found_by.push_back(one.word);
  std::vector<Hit> hits = search_any_of(found_by, count);
  if (static_cast<int64_t>(hits.size()) == count || weighty.size() == words.size()) return hits;
  return search_any_of(words, count);
}

std::vector<Hit> IndexReader::search_rarest(const std::vector<QueryWord>& words, int64_t count) const {
  std::vector<QueryWord> rest = words;
  std::stable_sort(rest.begin(), rest.end(),
                   [](const QueryWord& a, const QueryWord& b) { return a.passages < b.passages; });
  std::vector<std::string> rarest;
  int64_t looked_up = 0;
  size_t taken = 0;
  for (; taken < rest.size(); ++taken) {
    if (looked_up > 0 && looked_up + rest[taken].passages > kLookedUp) break;
    looked_up += rest[taken].passages;
    rarest.push_back(rest[taken].word);
  }
  rest.erase(rest.begin(), rest.begin() + static_cast<int64_t>(taken));
  std::vector<Hit> hits = search_any_of(rarest, std::max(kScoredWhole, 3 * count));
  if (!hits.empty()) add_scores(rest, fts_words_->mean_count(any_of(rarest)), hits);
  keep_best(hits, count);
  return hits;
}

// What the words, which did not find the passages, add to their scores.
void IndexReader::add_scores(const std::vector<QueryWord>& words, double mean_length, std::vector<Hit>& hits) const {
  // For each term its idf, once for every word of the query that is this term, and how often a passage has it.
  std::map<std::string, std::pair<double, int64_t>> terms;
  const auto N = static_cast<double>(passages_);
  for (const QueryWord& one : words) {
    const auto n = static_cast<double>(one.passages);
    terms[one.term].first += std::max(std::log((N - n + 0.5) / (n + 0.5)), 1e-6);
  }
  Statement found(database_, "SELECT title, text FROM passages WHERE slot = ?1");
  for (Hit& hit : hits) {
    if (!found.bind(hit.slot).step())
      fail("{}: the index is damaged: slot {} has no passage", index_.string(), hit.slot);
    double length = 0;
    for (auto& [term, weight] : terms) weight.second = 0;
    for (int column = 0; column < 2; ++column) {
      for (const std::string& word : fts_words_->of(found.text(column))) {
        ++length;
        const auto term = terms.find(word);
        if (term != terms.end()) ++term->second.second;
      }
    }
    constexpr double k1 = 1.2, b = 0.75;
    for (const auto& [term, weight] : terms) {
      const auto f = static_cast<double>(weight.second);
      if (f > 0) hit.score += weight.first * f * (k1 + 1) / (f + k1 * (1 - b + b * length / mean_length));
    }
  }
}

std::vector<Hit> IndexReader::search_any_of(const std::vector<std::string>& words, int64_t count) const {
  const std::string expression = any_of(words);
  std::vector<Hit> hits;
  if (expression.empty()) return hits;
  Statement found(database_, "SELECT rowid, rank FROM words WHERE words MATCH ?1 ORDER BY rank, rowid LIMIT ?2");
  found.bind(std::string_view(expression), count);
  while (found.step()) hits.push_back({found.integer(0), -found.real(1)});
  return hits;
}

std::vector<std::vector<Hit>> IndexReader::search_vectors(const at::Tensor& queries_QD, int64_t count) const {
  require(vectors_.has_value(), "{}: the index has no vectors: it was built without an encoder", index_.string());
  if (!graph_ || count > graph_->rows() / 8) return search_all(queries_QD, count, 0);
  std::vector<std::vector<Hit>> hits = search_all(queries_QD, count, graph_->rows());
  const at::Tensor rows_QD = queries_QD.contiguous();
  for (size_t q = 0; q < hits.size(); ++q) {
    const float* query = rows_QD.const_data_ptr<float>() + static_cast<int64_t>(q) * description_.width;
    for (const auto& [slot, score] : graph_->nearest(query, count, kCandidates)) {
      require(std::isfinite(score), "{}: the vectors of the index are damaged: the score of slot {} is not finite",
              index_.string(), slot);
      hits[q].push_back({slot, score});
    }
    keep_best(hits[q], count);
  }
  return hits;
}

std::vector<std::vector<Hit>> IndexReader::search_all(const at::Tensor& queries_QD, int64_t count,
                                                      int64_t first_slot) const {
  const int64_t Q = queries_QD.size(0), D = description_.width;
  std::vector<std::vector<Hit>> hits(static_cast<size_t>(Q));
  auto* rows = const_cast<std::byte*>(vectors_->bytes().data() + kVectorHeader);  // only read
  const at::Tensor all_ND = at::from_blob(rows, {slots_, D}, at::kFloat);
  const at::Tensor dead = at::tensor(at::ArrayRef<int64_t>(dead_));
  for (int64_t q = 0; q < Q; q += kQueries) {
    const at::Tensor some_QD = queries_QD.narrow(0, q, std::min(kQueries, Q - q));
    for (int64_t begin = first_slot; begin < slots_; begin += kBlock) {
      const int64_t N = std::min(kBlock, slots_ - begin);
      at::Tensor scores_QN = at::matmul(some_QD, all_ND.narrow(0, begin, N).t());
      require(at::isfinite(scores_QN).all().item<bool>(),
              "{}: the vectors of the index are damaged: a score of slots {} to {} is not finite", index_.string(),
              begin, begin + N - 1);
      const auto first = std::lower_bound(dead_.begin(), dead_.end(), begin) - dead_.begin();
      const auto last = std::lower_bound(dead_.begin(), dead_.end(), begin + N) - dead_.begin();
      if (last > first) scores_QN.index_fill_(1, dead.narrow(0, first, last - first) - begin, -INFINITY);
      const auto [best, places] = scores_QN.topk(std::min(count, N));
      const auto score = best.accessor<float, 2>();
      const auto place = places.accessor<int64_t, 2>();
      for (int64_t row = 0; row < some_QD.size(0); ++row) {
        std::vector<Hit>& mine = hits[static_cast<size_t>(q + row)];
        for (int64_t i = 0; i < best.size(1); ++i) {
          if (score[row][i] != -INFINITY) mine.push_back({begin + place[row][i], score[row][i]});
        }
        keep_best(mine, count);
      }
    }
  }
  return hits;
}

StoredPassage IndexReader::passage(int64_t slot) const {
  Statement found(database_, "SELECT id, title, text FROM passages WHERE slot = ?1");
  if (!found.bind(slot).step()) fail("{}: the index is damaged: slot {} has no passage", index_.string(), slot);
  return {found.text(0), found.text(1), found.text(2)};
}

}  // namespace cepe
