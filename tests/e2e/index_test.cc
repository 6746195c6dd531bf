// cepe index as a user runs it: built, searched, changed, killed in the middle of a change.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "base/file.h"
#include "e2e/run_cepe.h"

namespace cepe {
namespace {

using nlohmann::json;
using testing::HasSubstr;

std::string records(const std::string& prefix, int count) {
  std::string lines;
  for (int i = 0; i < count; ++i) {
    lines += fmt::format(
        "{{\"id\": \"{0}{1}\", \"title\": \"Ferry {1}\", \"text\": \"On day {1} the ferry {0} left.\"}}\n", prefix, i);
  }
  return lines;
}

class IndexCommand : public testing::Test {
 protected:
  std::string path(const std::string& name) const { return (directory_.path() / name).string(); }
  CommandResult build(std::vector<std::string> more = {}) const {
    std::vector<std::string> all{"index", "build", corpus_, "--out", path("index")};
    all.insert(all.end(), more.begin(), more.end());
    return run_cepe(all);
  }
  json search(const std::vector<std::string>& more) const {
    std::vector<std::string> all{"index", "search", path("index")};
    all.insert(all.end(), more.begin(), more.end());
    all.push_back("--json");
    const CommandResult result = run_cepe(all);
    EXPECT_EQ(result.status, 0) << result.err;
    return json::parse(result.out);
  }
  TemporaryDirectory directory_;
  std::string corpus_ = directory_.write("corpus.jsonl", records("old", 50));
  std::string encoder_ = CEPE_TEST_DATA "/bert/tiny";
};

TEST_F(IndexCommand, BuildsSearchesAddsAndDeletes) {
  const CommandResult built = build({"--encoder", encoder_});
  ASSERT_EQ(built.status, 0) << built.err;
  EXPECT_THAT(built.out, HasSubstr("index: 50 passages added"));
  const CommandResult found = run_cepe({"index", "search", path("index"), "day 7", "--count", "2", "--rank", "bm25"});
  EXPECT_THAT(found.out, HasSubstr("  old7  Ferry 7\n     On day 7 the ferry old left.\n")) << found.err;
  for (const char* rank : {"bm25", "dense", "fused"}) {
    const json result = search({"Ferry 7 On day 7 the ferry old left.", "--rank", rank, "--count", "3"});
    EXPECT_EQ(result["rank"], rank);
    ASSERT_EQ(result["passages"].size(), 3u) << rank;
    // The tiny encoder does not know one number from another: its best passage has the query's own vector.
    const json& best = result["passages"][0];
    if (result["rank"] == "bm25") {
      EXPECT_EQ(best["id"], "old7");
    }
    if (result["rank"] == "dense") {
      EXPECT_NEAR(best["score"].get<double>(), 1, 1e-5);
    }
  }
  ASSERT_EQ(run_cepe({"index", "add", path("index"), directory_.write("new.jsonl", records("new", 3))}).status, 0);
  ASSERT_EQ(run_cepe({"index", "delete", path("index"), "old7", "new1"}).status, 0);
  ASSERT_EQ(run_cepe({"index", "compact", path("index")}).status, 0);
  const json all = search({"ferry", "--rank", "dense", "--count", "100"});
  std::set<std::string> ids;
  for (const json& passage : all["passages"]) ids.insert(passage["id"]);
  EXPECT_EQ(ids.size(), 51u);
  EXPECT_TRUE(ids.contains("new0") && !ids.contains("new1") && !ids.contains("old7"));
}

TEST_F(IndexCommand, FindsForAFileOfQuestionsWhatEvalQaReads) {
  const std::string questions = directory_.write(
      "q.jsonl",
      R"({"question": "Which ferry left on day 3?", "answers": ["old"], "context": "On day 3 the ferry old left."}
{"question": "What left on day 9?", "answers": ["the ferry"], "context": "On day 9 the ferry old left."}
)");
  const CommandResult built =
      run_cepe({"index", "build", corpus_, "--questions", questions, "--out", path("index"), "--words", "porter"});
  ASSERT_EQ(built.status, 0) << built.err;
  EXPECT_THAT(built.out, HasSubstr("52 passages added"));
  const CommandResult found = run_cepe(
      {"index", "search", path("index"), "--queries", questions, "--out", path("found.jsonl"), "--count", "10"});
  ASSERT_EQ(found.status, 0) << found.err;
  EXPECT_THAT(found.out, HasSubstr("2 questions with gold passages"));
  EXPECT_THAT(found.out, HasSubstr("100.0 %"));
  const CommandResult printed =
      run_cepe({"index", "search", path("index"), "--queries", questions, "--out", "-", "--count", "10"});
  EXPECT_EQ(printed.out, read_file(path("found.jsonl"))) << printed.err;
  std::vector<std::string> ask{"eval", "qa", "--model", golden("published"), "--data", path("found.jsonl")};
  for (const char* word : {"--gold", "retrieved", "--encoder-passages", "3", "--controls", "none", "--demonstrations",
                           "0", "--max-tokens", "3", "--window", "4096", "--device", "cpu", "--form", "question"}) {
    ask.push_back(word);
  }
  ask.insert(ask.end(), {"--out", path("qa")});
  const CommandResult answered = run_cepe(ask);
  EXPECT_EQ(answered.status, 0) << answered.err;
  EXPECT_THAT(answered.out, HasSubstr("found, EM"));
}

TEST_F(IndexCommand, PassagesAreFoundForWindowsOfAText) {
  ASSERT_EQ(build().status, 0);
  std::string text;
  for (int i = 0; i < 40; ++i) text += fmt::format("The ferry left the harbour on day {} of its year. ", i);
  std::vector<std::string> command{"eval", "retrieval-lm", "--model", golden("published"), "--index", path("index")};
  for (const char* word : {"--decoder-tokens", "64", "--query-tokens", "32", "--passage-tokens", "16", "--passages",
                           "0,2", "--windows", "2", "--stride", "64", "--device", "cpu"}) {
    command.push_back(word);
  }
  command.insert(command.end(), {"--data", directory_.write("text.txt", text), "--out", path("lm")});
  const CommandResult scored = run_cepe(command);
  ASSERT_EQ(scored.status, 0) << scored.err;
  for (const char* row : {"| cepe | 0 | ", "| cepe | 2 | ", "| other | 2 | ", "| replug | 2 | ", "| prompt | 2 | "}) {
    EXPECT_THAT(scored.out, HasSubstr(row));
  }
  const json results = json::parse(read_file(path("lm/results.json")));
  EXPECT_EQ(results["windows"], 2);
  EXPECT_EQ(results["windows_with_fewer_passages"], 0);
  EXPECT_EQ(results["controls_with_fewer_passages"], 0);
  EXPECT_EQ(results["configuration"]["index_words"], "unicode61");
}

TEST_F(IndexCommand, RefusesInOneSentence) {
  ASSERT_EQ(build().status, 0);
  const std::string bad = directory_.write("bad.jsonl", "{\"text\": \"a\"}\n{\"title\": \"b\"}\n");
  expect_refused({"index", "build", bad, "--out", path("other")}, "bad.jsonl:2: expected a passage's \"text\"");
  EXPECT_FALSE(std::filesystem::exists(path("other")));
  expect_refused({"index", "build", corpus_, "--out", path("absent/other")},
                 "absent/other: the index cannot be built: there is no directory ");
  expect_refused({"index", "build", corpus_, "--out", path("index")}, "something in the index's place already");
  expect_refused({"index", "add", path("index"), bad}, "bad.jsonl:2");
  expect_refused({"index", "delete", path("index"), "old1", "absent"}, "no passage has the id \"absent\"");
  expect_refused({"index", "search", path("index"), "ferry", "--rank", "dense"}, "built without an encoder");
  expect_refused({"index", "search", path("index"), "ferry", "--rank", "best"},
                 "--rank: expected bm25, dense or fused");
  expect_refused({"index", "search", path("index")}, "expected a query");
  expect_refused({"index", "search", path("absent"), "x"}, "not an index of passages");
  EXPECT_EQ(search({"old", "--count", "100"})["passages"].size(), 50u);
}

// A killed `add` leaves all of its passages or none; the next command goes on as if nothing had happened.
TEST_F(IndexCommand, KilledWhileAddingItHoldsTheOldStateOrTheNewOne) {
  ASSERT_EQ(build({"--encoder", encoder_}).status, 0);
  const std::string more = directory_.write("more.jsonl", records("new", 2500));
  const auto count = [&](const std::string& word) {
    return search({word, "--rank", "bm25", "--count", "10000"})["passages"].size();
  };
  const auto start = std::chrono::steady_clock::now();
  ASSERT_EQ(run_cepe({"index", "add", path("index"), more}).status, 0);
  const std::chrono::duration<double> whole = std::chrono::steady_clock::now() - start;
  ASSERT_EQ(count("new"), 2500u);
  int kills = 0;
  for (const double share : {0.3, 0.6, 0.8, 0.95}) {
    std::filesystem::remove_all(path("index"));
    ASSERT_EQ(build({"--encoder", encoder_}).status, 0);
    const std::string killed = fmt::format("(sleep {:.3f}; kill -9 $$) & true", share * whole.count());
    kills += run_cepe({"index", "add", path("index"), more}, {.shell = killed}).status == 128 + 9;
    const size_t found = count("new");
    EXPECT_TRUE(found == 0 || found == 2500) << found << " of 2500 at " << share;
    EXPECT_EQ(count("old"), 50u);
    const CommandResult again = run_cepe({"index", "add", path("index"), more});
    EXPECT_EQ(again.status, 0) << again.err;
    EXPECT_EQ(count("new"), 2500u);
    EXPECT_EQ(search({"Ferry 7", "--rank", "dense", "--count", "5000"})["passages"].size(), 2550u);
  }
  EXPECT_GT(kills, 0);
}

}  // namespace
}  // namespace cepe
