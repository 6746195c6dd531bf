// The rankings of an index, and what is found for a file of questions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "retrieval/bert_encoder.h"
#include "retrieval/index_reader.h"
#include "tasks/questions/questions.h"

namespace cepe {

enum class Ranking { bm25, dense, fused };
// Error naming the option where there is no such ranking.
Ranking ranking_from_name(std::string_view name, std::string_view option);

// The first `count` by fuse_rankings() (text/rank_fusion.h).
std::vector<Hit> fuse_ranks(const std::vector<std::vector<Hit>>& rankings, int64_t count);
// How many passages of each ranking are fused, at least.
constexpr int64_t kFusionDepth = 100;

// For each query the best passages. encoder: null for bm25.
std::vector<std::vector<Hit>> search(const IndexReader& reader, const BertEncoder* encoder,
                                     const std::vector<std::string>& queries, Ranking ranking, int64_t count);

// A question with what was found for it, as one JSON object in DPR's form: "id", "question", "answers", "ctxs" of "id",
// "title", "text", "score" and, where the question names gold passages, "isgold". A passage is gold that has the title
// and text of one.
std::string dpr_record(const IndexReader& reader, const QuestionSet& set, const OpenQuestion& question,
                       const std::vector<Hit>& hits);

// How many of the gold passages stand among the first k of what was found; one that is found twice counts once.
struct GoldRecall {
  int64_t k = 0;
  double found = 0;  // mean over questions of the share of their gold passages
  double all = 0;    // share of questions all of whose gold passages were found
};
// Over the questions with gold passages; `questions` and `hits` side by side. `counted`: how many these are.
std::vector<GoldRecall> gold_recall(const IndexReader& reader, const QuestionSet& set,
                                    const std::vector<std::vector<Hit>>& hits, const std::vector<int64_t>& ks,
                                    int64_t& counted);

}  // namespace cepe
