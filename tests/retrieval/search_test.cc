// Exact search by vectors beside all products in double, fused ranks beside the formula, and records of what was found.
#include "retrieval/search.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error_of.h"
#include "retrieval/indexes.h"
#include "tasks/questions/question_files.h"

namespace cepe {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(Search, VectorsAreRankedAsAllProductsAre) {
  const TemporaryDirectory directory;
  const BertEncoder encoder(tiny_encoder(), at::kCPU);
  const std::vector<std::string> texts = drawn_texts(300, 11), queries = drawn_texts(70, 12);
  fill(directory / "index", texts, described_encoder(encoder), &encoder);
  const at::Tensor products =
      at::matmul(encoder.embed(queries).to(at::kDouble), encoder.embed(texts).to(at::kDouble).t());
  const IndexReader reader(directory / "index");
  const auto hits = search(reader, &encoder, queries, Ranking::dense, 20);
  ASSERT_EQ(hits.size(), queries.size());
  for (size_t q = 0; q < queries.size(); ++q) {
    const auto sorted = std::get<0>(products[static_cast<int64_t>(q)].sort(0, true));
    ASSERT_EQ(hits[q].size(), 20u);
    for (int64_t i = 0; i < 20; ++i) {
      const Hit& hit = hits[q][static_cast<size_t>(i)];
      EXPECT_NEAR(hit.score, sorted[i].item<double>(), 1e-5);
      EXPECT_NEAR(hit.score, products[static_cast<int64_t>(q)][hit.slot].item<double>(), 1e-5);
    }
  }
  EXPECT_THAT(error_of([&] { search(reader, nullptr, queries, Ranking::fused, 5); }), HasSubstr("only bm25 ranks it"));
}

TEST(Search, RanksAreFusedByTheirReciprocals) {
  const auto fused = fuse_ranks({{{7, 9.0}, {3, 8.0}, {5, 1.0}}, {{3, 0.9}, {4, 0.8}}, {}}, 3);
  ASSERT_EQ(fused.size(), 3u);
  EXPECT_EQ(fused[0].slot, 3);
  EXPECT_DOUBLE_EQ(fused[0].score, 1 / 62.0 + 1 / 61.0);
  EXPECT_EQ(fused[1].slot, 7);
  EXPECT_DOUBLE_EQ(fused[1].score, 1 / 61.0);
  EXPECT_EQ(fused[2].slot, 4);
  EXPECT_THAT(fuse_ranks({{{2, 1.0}}, {{1, 1.0}}}, 5)[0].slot, 1);  // of equal scores the lower slot
}

TEST(Search, RecordsAreReadAsQuestionsWithTheirGoldPassages) {
  const TemporaryDirectory directory;
  write_file(directory / "q.jsonl",
             R"({"question": "Who lit the lamp?", "answers": ["Anna"], "gold": [0],)"
             R"( "passages": [{"title": "Lamp", "text": "The lamp was lit by Anna."}, "A door."]})"
             "\n"
             R"({"question": "What was shut?", "answers": ["the door"], "gold": [0, 1],)"
             R"( "passages": ["A door was shut.", "A window was open."]})");
  const QuestionSet set = read_questions(directory / "q.jsonl");
  build_index(directory / "index", {}, nullptr, [&](IndexWriter& writer) {
    read_passages(set, [&](IndexedPassage passage) { writer.add(std::move(passage)); });
  });
  const IndexReader reader(directory / "index");
  EXPECT_EQ(reader.passages(), 4);
  const auto hits = search(reader, nullptr, {set.questions[0].question, set.questions[1].question}, Ranking::bm25, 3);
  std::string lines;
  for (size_t q = 0; q < 2; ++q) lines += dpr_record(reader, set, set.questions[q], hits[q]) + "\n";
  const json first = json::parse(lines.substr(0, lines.find('\n')));
  EXPECT_EQ(first["ctxs"][0]["title"], "Lamp");
  EXPECT_EQ(first["ctxs"][0]["isgold"], true);
  EXPECT_EQ(first["ctxs"][0]["id"], passage_key("Lamp", "The lamp was lit by Anna."));

  write_file(directory / "found.jsonl", lines);
  const QuestionSet found = read_questions(directory / "found.jsonl");
  EXPECT_EQ(found.form, QuestionForm::dpr);
  ASSERT_EQ(found.questions.size(), 2u);
  EXPECT_EQ(found.questions[0].answers, std::vector<std::string>{"Anna"});
  EXPECT_EQ(found.passages[found.questions[0].gold.at(0)].title, "Lamp");

  // "was" and "shut" find the first gold passage of the second question, "was" the other one.
  int64_t counted = 0;
  const auto recall = gold_recall(reader, set, hits, {1, 3}, counted);
  EXPECT_EQ(counted, 2);
  EXPECT_DOUBLE_EQ(recall[0].found, 0.75);
  EXPECT_DOUBLE_EQ(recall[0].all, 0.5);
  EXPECT_DOUBLE_EQ(recall[1].found, 1);
  EXPECT_DOUBLE_EQ(recall[1].all, 1);
}

TEST(Search, AGoldPassageUnderTwoIdsIsFoundOnce) {
  const TemporaryDirectory directory;
  write_file(directory / "q.jsonl",
             R"({"question": "the lamp", "answers": ["Anna"], "gold": [0, 1], "passages": ["A lamp.", "A door."]})"
             "\n");
  const QuestionSet set = read_questions(directory / "q.jsonl");
  build_index(directory / "index", {}, nullptr, [&](IndexWriter& writer) {
    for (const char* id : {"a", "b", "c"}) writer.add(passage_of(id, "A lamp."));
    writer.add(passage_of("d", "A door."));
  });
  const IndexReader reader(directory / "index");
  int64_t counted = 0;
  const auto recall = gold_recall(reader, set, {{{0, 4}, {1, 3}, {2, 2}, {3, 1}}}, {2, 3, 4}, counted);
  for (const size_t at : {0, 1}) {
    EXPECT_DOUBLE_EQ(recall[at].found, 0.5);
    EXPECT_DOUBLE_EQ(recall[at].all, 0);
  }
  EXPECT_DOUBLE_EQ(recall[2].found, 1);
  EXPECT_DOUBLE_EQ(recall[2].all, 1);
}

}  // namespace
}  // namespace cepe
