#include "retrieval/search.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/json_text.h"
#include "retrieval/passage_files.h"
#include "text/rank_fusion.h"

namespace cepe {
namespace {

std::set<std::string> gold_keys(const QuestionSet& set, const OpenQuestion& question) {
  std::set<std::string> keys;
  for (const size_t gold : question.gold) {
    keys.insert(passage_key(set.passages[gold].title, set.passages[gold].text));
  }
  return keys;
}

}  // namespace

Ranking ranking_from_name(std::string_view name, std::string_view option) {
  if (name == "bm25") return Ranking::bm25;
  if (name == "dense") return Ranking::dense;
  if (name == "fused") return Ranking::fused;
  fail("{}: expected bm25, dense or fused, found \"{}\"", option, name);
}

std::vector<Hit> fuse_ranks(const std::vector<std::vector<Hit>>& rankings, int64_t count) {
  std::vector<std::vector<int64_t>> slots;
  for (const std::vector<Hit>& ranking : rankings) {
    slots.emplace_back();
    for (const Hit& hit : ranking) slots.back().push_back(hit.slot);
  }
  std::vector<Hit> fused;
  for (const auto& [slot, score] : fuse_rankings(slots)) {
    if (static_cast<int64_t>(fused.size()) < count) fused.push_back({slot, score});
  }
  return fused;
}

std::vector<std::vector<Hit>> search(const IndexReader& reader, const BertEncoder* encoder,
                                     const std::vector<std::string>& queries, Ranking ranking, int64_t count) {
  const int64_t depth = ranking == Ranking::fused ? std::max(count, kFusionDepth) : count;
  std::vector<std::vector<Hit>> by_words, by_vectors;
  if (ranking != Ranking::dense) {
    for (const std::string& query : queries) by_words.push_back(reader.search_words(query, depth));
  }
  if (ranking == Ranking::bm25) return by_words;
  require(encoder != nullptr, "the index has no vectors: it was built without an encoder, and only bm25 ranks it");
  by_vectors = reader.search_vectors(encoder->embed(queries), depth);
  if (ranking == Ranking::dense) return by_vectors;
  std::vector<std::vector<Hit>> fused;
  for (size_t i = 0; i < queries.size(); ++i) fused.push_back(fuse_ranks({by_words[i], by_vectors[i]}, count));
  return fused;
}

std::string dpr_record(const IndexReader& reader, const QuestionSet& set, const OpenQuestion& question,
                       const std::vector<Hit>& hits) {
  const std::set<std::string> gold = gold_keys(set, question);
  nlohmann::ordered_json ctxs = nlohmann::ordered_json::array();
  for (const Hit& hit : hits) {
    const StoredPassage passage = reader.passage(hit.slot);
    nlohmann::ordered_json ctx = {
        {"id", passage.id}, {"title", passage.title}, {"text", passage.text}, {"score", hit.score}};
    if (!gold.empty()) ctx["isgold"] = gold.contains(passage_key(passage.title, passage.text));
    ctxs.push_back(std::move(ctx));
  }
  const nlohmann::ordered_json record = {
      {"id", question.id}, {"question", question.question}, {"answers", question.answers}, {"ctxs", std::move(ctxs)}};
  return record.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

std::vector<GoldRecall> gold_recall(const IndexReader& reader, const QuestionSet& set,
                                    const std::vector<std::vector<Hit>>& hits, const std::vector<int64_t>& ks,
                                    int64_t& counted) {
  std::vector<GoldRecall> recall;
  for (const int64_t k : ks) recall.push_back({k, 0, 0});
  counted = 0;
  for (size_t q = 0; q < hits.size(); ++q) {
    const std::set<std::string> gold = gold_keys(set, set.questions[q]);
    if (gold.empty()) continue;
    ++counted;
    std::vector<size_t> ranks;    // of the gold passages that were found, each at its first place
    std::set<std::string> found;  // one text may stand in the index under several ids
    for (size_t rank = 0; rank < hits[q].size(); ++rank) {
      const StoredPassage passage = reader.passage(hits[q][rank].slot);
      const std::string key = passage_key(passage.title, passage.text);
      if (gold.contains(key) && found.insert(key).second) ranks.push_back(rank);
    }
    for (GoldRecall& at : recall) {
      const auto count =
          std::count_if(ranks.begin(), ranks.end(), [&](size_t rank) { return rank < static_cast<size_t>(at.k); });
      at.found += static_cast<double>(count) / static_cast<double>(gold.size());
      at.all += static_cast<size_t>(count) == gold.size();
    }
  }
  for (GoldRecall& at : recall) {
    at.found /= static_cast<double>(std::max<int64_t>(counted, 1));
    at.all /= static_cast<double>(std::max<int64_t>(counted, 1));
  }
  return recall;
}

}  // namespace cepe
