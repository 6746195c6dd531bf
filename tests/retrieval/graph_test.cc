// An index with a graph of its vectors: what it finds beside brute force, through changes, and what damage does.
#include <ATen/ATen.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <future>
#include <set>

#include "base/error_of.h"
#include "base/file.h"
#include "retrieval/indexes.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class GraphIndex : public testing::Test {
 protected:
  GraphIndex() {
    IndexDescription description = described_encoder(encoder_);
    description.graph = GraphOptions{.links = 8, .candidates = 60};
    fill(index_, drawn_texts(600, 3), description, &encoder_);
  }
  using Hits = std::vector<std::vector<Hit>>;
  Hits found(VectorSearch search, int64_t count = 10) const {
    return IndexReader(index_, search).search_vectors(queries_, count);
  }
  // The share of brute force's hits that the graph finds, or finds as good ones as: texts of few words are alike.
  double recall() const {
    const Hits exact = found(VectorSearch::exact), graph = found(VectorSearch::graph);
    double good = 0, all = 0;
    for (size_t q = 0; q < exact.size(); ++q) {
      EXPECT_EQ(graph[q].size(), exact[q].size());
      for (const Hit& hit : graph[q]) good += hit.score >= exact[q].back().score - 1e-6;
      all += static_cast<double>(exact[q].size());
    }
    return good / all;
  }
  std::set<std::string> ids(const Hits& hits) const {
    const IndexReader reader(index_);
    std::set<std::string> ids;
    for (const auto& some : hits) {
      for (const Hit& hit : some) ids.insert(reader.passage(hit.slot).id);
    }
    return ids;
  }
  fs::path graph(int64_t generation = 1) const { return graph_file(index_, generation); }
  void compact() {
    IndexWriter writer(index_, nullptr);
    writer.compact();
    writer.commit();
  }
  int64_t linked_slots(int64_t generation) const {
    return recorded_graph(Database(passages_file(index_), Database::Access::read), index_, generation).rows;
  }

  TemporaryDirectory directory_;
  const fs::path index_ = directory_ / "index";
  const BertEncoder encoder_{tiny_encoder(), at::kCPU};
  const at::Tensor queries_ = encoder_.embed(drawn_texts(40, 12));
};

TEST_F(GraphIndex, FindsWhatBruteForceFinds) {
  EXPECT_EQ(linked_slots(1), 600);
  EXPECT_GE(recall(), 0.95);
  // Where many are asked for, all vectors are looked at.
  EXPECT_EQ(found(VectorSearch::graph, 600)[0].size(), 600u);
}

TEST_F(GraphIndex, AddedPassagesAreFoundDeletedOnesAreNotAndCompactingLinksAll) {
  const std::set<std::string> first = ids(found(VectorSearch::graph, 1));
  {
    IndexWriter writer(index_, &encoder_);
    for (const std::string& id : first) EXPECT_TRUE(writer.remove(id));
    const auto added = drawn_texts(40, 12);  // the queries themselves
    for (size_t i = 0; i < added.size(); ++i) writer.add(passage_of(fmt::format("new{}", i), added[i]));
    writer.commit();
  }
  EXPECT_EQ(linked_slots(1), 600);
  const auto check = [&] {
    EXPECT_GE(recall(), 0.95);
    const Hits best = found(VectorSearch::graph, 1);
    for (const auto& hits : best) EXPECT_NEAR(hits.at(0).score, 1, 1e-5);
    for (const std::string& id : ids(found(VectorSearch::graph))) EXPECT_FALSE(first.contains(id)) << id;
  };
  check();
  compact();
  EXPECT_FALSE(fs::exists(graph(1)));
  EXPECT_EQ(linked_slots(2), 640 - static_cast<int64_t>(first.size()));
  check();
  {  // nothing is dead, but one vector has no links
    IndexWriter writer(index_, &encoder_);
    writer.add(passage_of("one more", "w1 w5"));
    writer.compact();
    writer.commit();
  }
  EXPECT_EQ(linked_slots(3), 641 - static_cast<int64_t>(first.size()));
  check();
  IndexWriter(index_, nullptr).compact();  // without a commit, and with nothing to do
  EXPECT_TRUE(fs::exists(graph(3)) && fs::exists(vectors_file(index_, 3)));
}

TEST_F(GraphIndex, AReaderKeepsItsStateWhileTheIndexIsCompacted) {
  const IndexReader reader(index_, VectorSearch::graph);
  const auto before = reader.search_vectors(queries_, 5);
  {
    IndexWriter writer(index_, nullptr);
    for (int i = 0; i < 300; ++i) writer.remove(fmt::format("p{}", i));
    writer.compact();
    writer.commit();
  }
  const auto after = reader.search_vectors(queries_, 5);
  for (size_t q = 0; q < before.size(); ++q) {
    for (size_t i = 0; i < 5; ++i) EXPECT_EQ(after[q].at(i).slot, before[q].at(i).slot);
  }
}

// The open that comes while a lease is held waits for the file's owner: here until a compaction has taken it away.
TEST_F(GraphIndex, AReaderThatOpensWhileACompactionCommitsSeesItsResult) {
  std::signal(SIGIO, SIG_IGN);  // what tells the lease's holder
  const int held = ::open(graph(1).c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_GE(held, 0);
  if (::fcntl(held, F_SETLEASE, F_WRLCK) != 0) {
    ::close(held);
    GTEST_SKIP() << "the file system has no leases";
  }
  auto opened = std::async(std::launch::async, [&] { return found(VectorSearch::graph); });
  const auto waits = [&] { return ::fcntl(held, F_GETLEASE) != F_WRLCK; };
  while (!waits() && opened.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready) {
  }
  IndexWriter writer(index_, nullptr);
  EXPECT_TRUE(writer.remove("p0"));
  writer.compact();
  writer.commit();
  EXPECT_FALSE(fs::exists(graph(1)));
  ::close(held);
  Hits hits;
  EXPECT_NO_THROW(hits = opened.get());
  EXPECT_EQ(hits.size(), 40u);
  for (const auto& some : hits) EXPECT_EQ(some.size(), 10u);
}

TEST_F(GraphIndex, CompactingLinksAnewWhereTheGraphIsDamaged) {
  const std::string bytes = read_file(graph(1));
  fs::remove(graph(1));
  compact();
  EXPECT_EQ(linked_slots(2), 600);
  EXPECT_GE(recall(), 0.95);
  write_file(graph(2), bytes.substr(0, 500));
  compact();
  EXPECT_GE(recall(), 0.95);
  write_file(graph(3), std::string(fs::file_size(graph(3)), 'x'));
  compact();
  EXPECT_GE(recall(), 0.95);
  compact();  // nothing to do
  EXPECT_TRUE(fs::exists(graph(4)));
}

TEST_F(GraphIndex, WhatAKilledCompactionLeftIsRemoved) {
  write_file(graph(2), "part of a graph");
  write_file(vectors_file(index_, 2), "part of the vectors");
  IndexWriter writer(index_, &encoder_);
  EXPECT_FALSE(fs::exists(graph(2)) || fs::exists(vectors_file(index_, 2)));
  EXPECT_TRUE(fs::exists(graph(1)));
}

TEST_F(GraphIndex, DamageIsOneSentenceAndLeavesTheExactSearch) {
  const std::string bytes = read_file(graph());
  const auto refusal = [&](const std::string& changed) {
    write_file(graph(), changed);
    EXPECT_EQ(found(VectorSearch::exact)[0].size(), 10u);
    return error_of([&] { found(VectorSearch::graph); });
  };
  EXPECT_THAT(refusal(bytes.substr(0, 500)), HasSubstr("graph-1.hnsw: the file is damaged: it has 500 bytes"));
  EXPECT_THAT(refusal(std::string(bytes.size(), 'x')), HasSubstr("graph-1.hnsw: the file is damaged: its SHA-256"));
  fs::remove(graph());
  EXPECT_THAT(error_of([&] { found(VectorSearch::graph); }), HasSubstr("or their graph is"));
  write_file(graph(), bytes);
  const std::string description = read_file(index_ / "index.json");
  const auto described = [&](const std::string& links) {
    std::string changed = description;
    changed.replace(changed.find("\"links\": 8"), 10, "\"links\": " + links);
    write_file(index_ / "index.json", changed);
    return error_of([&] { found(VectorSearch::graph); });
  };
  EXPECT_THAT(described("9"), HasSubstr("does not begin as a graph of 600 vectors with 9 links"));
  EXPECT_THAT(described("1"), HasSubstr("index.json: expected 2 to 256 links"));
  EXPECT_THAT(described("\"8\""), HasSubstr("index.json"));
  write_file(index_ / "index.json", description);
  Database(passages_file(index_), Database::Access::write).run("DELETE FROM graph");
  EXPECT_THAT(error_of([&] { found(VectorSearch::graph); }), HasSubstr("it says nothing of graph-1.hnsw"));
}

}  // namespace
}  // namespace cepe
