// Runs of `eval lm`: what is recorded, what an interrupted run leaves, and what the rows are.
#include "eval/lm/lm_run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <map>
#include <random>
#include <set>
#include <sstream>

#include "base/error.h"
#include "base/file.h"
#include "base/temporary_directory.h"
#include "eval/lm/baselines.h"
#include "eval/lm/lm_report.h"
#include "eval/lm_fixture.h"
#include "eval/perplexity.h"

namespace cepe {
namespace {

using nlohmann::json;
using testing::HasSubstr;

class LmRuns : public testing::Test {
 protected:
  LmRuns() : model_(open_lm_fixture("cepe-mha", 64)) {
    model_.config.chunk_length = 8;
    std::mt19937 random(4);
    for (int i = 0; i < 5; ++i) {
      TokenDocument document{fmt::format("a{}", i), i < 3 ? "a" : "b", {}, i == 1 ? "" : "one"};
      for (int t = 0; t < 150 + 20 * i; ++t) document.tokens.push_back(static_cast<TokenId>(random() % 128));
      documents_.push_back(std::move(document));
    }
    options_.decoder_tokens = 32;
    options_.scored_tokens = 8;
    options_.stride = 16;
    options_.windows = 4;
    options_.context_tokens = {0, 16, 48};
    options_.other_document = options_.same_source = options_.shuffled = true;
  }

  std::vector<NamedReader> readers() const {
    BaselineOptions baseline;
    baseline.decoder_tokens = options_.decoder_tokens;
    baseline.replug_chunk = 16;
    std::vector<NamedReader> readers{{kCepeReader, encoder_reader(model_, false), true, true, true}};
    for (const std::string& name : baselines_) {
      readers.push_back({name, baseline_reader(name, model_, tokenizer_, baseline), true, true, false});
    }
    return readers;
  }
  LmRun run(const std::string& name) const {
    const WindowScoring scoring(model_, documents_, options_, readers());
    return run_lm(scoring, documents_, {directory_.path() / name, {{"seed", 1}}, {}});
  }
  // The first record of each group, and the number of all.
  std::vector<size_t> group_begins() const {
    const WindowScoring scoring(model_, documents_, options_, readers());
    std::vector<size_t> begins{0};
    for (const WindowGroup& group : scoring.groups()) {
      size_t records = 0;
      for (size_t row = 0; row < scoring.empty_scores().rows.size(); ++row) {
        if (scoring.has(group.first, row)) records += group.size;
      }
      begins.push_back(begins.back() + records);
    }
    return begins;
  }
  std::string samples(const std::string& name) const { return read_file(directory_.path() / name / "samples.jsonl"); }

  TemporaryDirectory directory_;
  NumberTokenizer tokenizer_;
  Cepe model_;
  std::vector<TokenDocument> documents_;
  PerplexityOptions options_;
  std::vector<std::string> baselines_ = baseline_names();
};

TEST_F(LmRuns, RecordsEveryWindowInEveryRow) {
  const LmRun run = this->run("whole");
  const std::string lines = samples("whole");
  EXPECT_EQ(run.records, std::count(lines.begin(), lines.end(), '\n'));
  EXPECT_EQ(run.resumed, 0);
  size_t cells = 0;
  for (const ScoredRow& row : run.scores.rows) {
    ASSERT_EQ(row.nll.size(), row.windows.size());
    EXPECT_FALSE(row.nll.empty());
    EXPECT_GT(row.seconds, 0);
    EXPECT_GT(row.peak_bytes, 1u << 20);
    cells += row.nll.size();
  }
  EXPECT_EQ(static_cast<size_t>(run.records), cells);
  const json first = json::parse(lines.substr(0, lines.find('\n')));
  EXPECT_EQ(first.at("tags"), (json{{"domain", "a"}, {"reader", "plain"}, {"context", "none"}, {"tokens", "0"}}));
  EXPECT_EQ(first.at("id"),
            run.scores.windows[0].document + "@" + std::to_string(run.scores.windows[0].start) + ", plain, none, 0");
  EXPECT_DOUBLE_EQ(first.at("scores").at("loss"), run.scores.rows[0].nll[0]);
}

// Both commands score with the same code; here the numbers of one are those of the other.
TEST_F(LmRuns, SharedRowsAreThoseOfPerplexity) {
  const LmRun run = this->run("whole");
  PerplexityOptions options = options_;
  options.full_window = true;
  for (const ScoredRow& expected : score_windows(model_, documents_, options).rows) {
    const auto row = std::find_if(run.scores.rows.begin(), run.scores.rows.end(), [&](const ScoredRow& one) {
      return one.domain == expected.domain && one.reading == expected.reading &&
             one.context_tokens == expected.context_tokens;
    });
    ASSERT_NE(row, run.scores.rows.end());
    EXPECT_EQ(row->nll, expected.nll);
    EXPECT_EQ(row->windows, expected.windows);
  }
}

// Every record has a cost, and a row's seconds are the sum of the last that each of its records has.
void expect_costs(const std::filesystem::path& directory, const LmRun& run) {
  std::map<std::string, double> seconds;
  std::istringstream costs(read_file(directory / "costs.jsonl"));
  for (std::string line; std::getline(costs, line);) {
    const json cost = json::parse(line);
    EXPECT_GT(cost.at("seconds"), 0);
    seconds[cost.at("id").get<std::string>()] = cost.at("seconds").get<double>();
  }
  std::map<std::map<std::string, std::string>, double> expected;
  std::istringstream samples(read_file(directory / "samples.jsonl"));
  for (std::string line; std::getline(samples, line);) {
    const json record = json::parse(line);
    const auto id = record.at("id").get<std::string>();
    ASSERT_TRUE(seconds.contains(id)) << id;
    expected[record.at("tags").get<std::map<std::string, std::string>>()] += seconds[id];
  }
  EXPECT_EQ(seconds.size(), static_cast<size_t>(run.records)) << "a cost of no record";
  for (const ScoredRow& row : run.scores.rows) EXPECT_NEAR(row.seconds, expected.at(row_tags(row)), 1e-9);
}

// The offset at which line n begins; the size where there is none.
size_t line_begin(const std::string& text, size_t n) {
  size_t at = 0;
  for (; n > 0 && at < text.size(); --n) at = text.find('\n', at) + 1;
  return at;
}

// Cut anywhere, even within a line: what a process leaves that was killed. A group's costs are written before its
// records: where none of its records is begun, its costs are cut too.
TEST_F(LmRuns, AnInterruptedRunGoesOnToTheSameBytes) {
  baselines_ = {"yarn", "replug"};
  for (const int64_t batch : {1, 3}) {
    options_.batch = batch;
    const std::string whole = "whole" + std::to_string(batch);
    const LmRun expected = run(whole);
    const std::string lines = samples(whole), costs = read_file(directory_.path() / whole / "costs.jsonl");
    const std::vector<size_t> begins = group_begins();
    ASSERT_EQ(begins.back(), static_cast<size_t>(expected.records));
    std::mt19937 random(9);
    for (int cut = 0; cut < 7; ++cut) {
      const std::string name = fmt::format("cut{}-{}", batch, cut);
      const std::filesystem::path directory = directory_.path() / name;
      std::filesystem::copy(directory_.path() / whole, directory);
      const size_t group = random() % (begins.size() - 1);
      const size_t begin = line_begin(lines, begins[group]), end = line_begin(lines, begins[group + 1]),
                   costs_begin = line_begin(costs, begins[group]), costs_end = line_begin(costs, begins[group + 1]);
      const bool begun = cut % 2 == 1;  // the group's first record
      const size_t size = cut == 0 ? lines.size() : begun ? begin + 1 + random() % (end - begin - 1) : begin;
      const size_t costs_size = cut == 0 ? costs.size()
                                : begun  ? costs_end
                                         : costs_begin + random() % (costs_end - costs_begin);
      write_file(directory / "samples.jsonl", lines.substr(0, size));
      write_file(directory / "costs.jsonl", costs.substr(0, costs_size));
      const LmRun again = run(name);
      EXPECT_EQ(samples(name), lines) << "cut at " << size;
      EXPECT_EQ(again.resumed, std::count(lines.begin(), lines.begin() + static_cast<int64_t>(size), '\n'));
      for (size_t r = 0; r < again.scores.rows.size(); ++r) {
        EXPECT_EQ(again.scores.rows[r].nll, expected.scores.rows[r].nll);
      }
      expect_costs(directory, again);
    }
    EXPECT_EQ(read_file(directory_.path() / fmt::format("cut{}-0", batch) / "costs.jsonl"), costs) << "nothing scored";
  }
}

// The order that the test above takes for granted: a disk that is full for the longer lines, those of the records.
TEST_F(LmRuns, CostsAreOnTheDiskBeforeTheirRecords) {
  baselines_ = {"full"};
  options_.batch = 3;
  run("whole");
  const auto lines_of = [&](const std::string& name, const char* file) {
    const std::string text = read_file(directory_.path() / name / file);
    return std::count(text.begin(), text.end(), '\n');
  };
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{.rlim_cur = samples("whole").size() / 2, .rlim_max = before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const std::string error = error_of<Error>([&] { run("full"); });
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_THAT(error, HasSubstr("samples.jsonl: it could not be written"));
  const std::vector<size_t> begins = group_begins();
  const auto records = static_cast<size_t>(lines_of("full", "samples.jsonl"));
  const auto group = std::find(begins.begin(), begins.end(), records);
  ASSERT_TRUE(group != begins.end() && group + 1 != begins.end()) << records;
  EXPECT_EQ(static_cast<size_t>(lines_of("full", "costs.jsonl")), group[1]);
  const LmRun again = run("full");
  EXPECT_EQ(samples("full"), samples("whole"));
  expect_costs(directory_.path() / "full", again);
}

TEST_F(LmRuns, ACostThatIsNoneIsNamed) {
  baselines_ = {"full"};
  run("whole");
  const auto file = directory_.path() / "whole" / "costs.jsonl";
  const std::string costs = read_file(file);
  for (const char* line : {R"({"seconds": 1})", R"({"id": 3, "seconds": 1, "peak_memory_bytes": 1})",
                           R"({"id": "x", "seconds": null, "peak_memory_bytes": 1})",
                           R"({"id": "x", "seconds": 1, "peak_memory_bytes": -1})"}) {
    write_file(file, std::string(line) + "\n" + costs);
    EXPECT_THAT(error_of<Error>([&] { run("whole"); }),
                HasSubstr(file.string() + ":1: expected a cost with id, seconds and peak_memory_bytes"));
  }
}

TEST_F(LmRuns, ADirectoryOfOtherTextIsRefused) {
  run("whole");
  for (TokenDocument& document : documents_) {
    for (TokenId& token : document.tokens) token ^= 1;
  }
  try {
    run("whole");
    FAIL() << "another text is not noticed";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("the data or the tokenizer has changed"));
  }
}

TEST_F(LmRuns, TheTableHasALineForEachRowAndTheCostsAUnit) {
  const LmRun run = this->run("whole");
  const PerplexityRecord record = summarise(run.scores, "tiny", options_);
  const std::string table = lm_table(record);
  EXPECT_THAT(table,
              HasSubstr("| domain | context | tokens | windows | documents | perplexity | change | against full"));
  EXPECT_THAT(table, HasSubstr("| a | none (plain) | 0 |"));
  EXPECT_THAT(table, HasSubstr("| b | streaming: other document | 48 |"));
  EXPECT_THAT(table, HasSubstr("| a | yarn: same source | 48 |"));
  EXPECT_THAT(table, HasSubstr("Fewer than 5 documents give no error bars."));
  size_t lines = 0;
  for (size_t at = 0; at < table.size(); at = table.find('\n', at) + 1) lines += table[at] == '|' ? 1 : 0;
  EXPECT_EQ(lines, record.rows.size() + 2);
  size_t perplexities = 0;
  for (const Result& result : lm_results(record)) {
    EXPECT_EQ(result.unit, result.score == "perplexity" ? "perplexity" : "") << result.score;
    perplexities += result.score == "perplexity" ? 1 : 0;
  }
  EXPECT_EQ(perplexities, record.rows.size());
  EXPECT_EQ(lm_costs(record).size(), 4 * record.rows.size());
}

// Each baseline beside cepe at every length that both read, also where full attention reads no more.
TEST_F(LmRuns, EveryBaselineIsComparedWithCepe) {
  const PerplexityRecord record = summarise(run("whole").scores, "tiny", options_);
  const auto of = [&](const PerplexityRow& row, const char* reader) {
    return std::find_if(record.rows.begin(), record.rows.end(), [&](const PerplexityRow& other) {
      return other.scored.domain == row.scored.domain && other.scored.reading == Reading{reader, Control::own} &&
             other.scored.context_tokens == row.scored.context_tokens;
    });
  };
  std::set<std::string> beyond;
  for (const PerplexityRow& row : record.rows) {
    const Reading& reading = row.scored.reading;
    const bool other =
        reading.reader != kCepeReader && reading.control == Control::own && row.scored.context_tokens > 0;
    ASSERT_EQ(row.against_cepe.has_value(), other) << reading_label(reading);
    if (!other) continue;
    EXPECT_NEAR(row.against_cepe->value, row.perplexity / of(row, kCepeReader)->perplexity - 1, 1e-9);
    EXPECT_EQ(row.against_cepe->windows, static_cast<int64_t>(row.scored.windows.size()));
    if (of(row, kFullReader) == record.rows.end()) beyond.insert(reading.reader);
  }
  EXPECT_EQ(beyond, (std::set<std::string>{"pi", "ntk", "dynamic", "yarn", "streaming", "replug"}));
  EXPECT_THAT(lm_table(record), HasSubstr(" | against full attention | against cepe |"));
}

// A reader is prepared once for each of its lengths, before the first group is timed.
TEST_F(LmRuns, ReadersArePreparedBeforeTheyAreTimed) {
  struct Watched : LmReader {
    mutable std::vector<int64_t> prepared;
    mutable bool scored = false;
    std::string why_not(int64_t n) const override { return n == 0 ? "that is the decoder alone" : ""; }
    void prepare(int64_t n) const override {
      EXPECT_FALSE(scored);
      prepared.push_back(n);
    }
    void score(const WindowBatch& batch, std::span<const WantedRow> rows, const OnRowScores& on) const override {
      scored = true;
      for (const WantedRow& row : rows) {
        on(row.row, {std::vector<double>(static_cast<size_t>(batch.size()), 1.0), {0.5, 3000, 1000}});
      }
    }
  };
  const auto watched = std::make_shared<Watched>();
  std::vector<NamedReader> readers = this->readers();
  readers.resize(1);
  readers.push_back({"watched", watched, true});
  const WindowScoring scoring(model_, documents_, options_, readers);
  const LmRun run = run_lm(scoring, documents_, {directory_.path() / "watched", {{"seed", 1}}, {}});
  EXPECT_EQ(watched->prepared, (std::vector<int64_t>{16, 48}));
  int rows = 0;
  for (const ScoredRow& row : run.scores.rows) {
    if (row.reading.reader != "watched") continue;
    EXPECT_EQ(row.peak_bytes, 3000u);
    EXPECT_EQ(row.working_bytes, 2000u);
    ++rows;
  }
  EXPECT_EQ(rows, 2 * 2 * 2);  // domains, lengths, own and another document's
}

// Document a1 names no source: a gain over the same source is of the other documents' windows, and says so.
TEST_F(LmRuns, AComparisonCountsTheWindowsThatItIsOf) {
  baselines_ = {"full"};
  const PerplexityRecord record = summarise(run("whole").scores, "tiny", options_);
  int64_t windows = 0, paired = 0;
  for (const ScoredWindow& window : record.windows) {
    if (window.domain != "a") continue;
    ++windows;
    paired += window.same_source ? 1 : 0;
  }
  ASSERT_GT(paired, 0);
  ASSERT_LT(paired, windows);
  int gains = 0;
  for (const Result& result : lm_results(record)) {
    if (result.tags.at("domain") != "a") continue;
    const bool gain = result.score.starts_with("same_source_gain"), own = result.tags.at("context") == "own";
    if (gain || own) {
      EXPECT_EQ(result.examples, gain ? paired : windows) << result.score;
    }
    gains += gain ? 1 : 0;
  }
  EXPECT_EQ(gains, 2 + 1 + 1) << "of cepe, of full attention, and a difference";
  EXPECT_THAT(lm_table(record), HasSubstr(fmt::format(" % (windows: {}, documents: 2) |", paired)));
}

// Another model is compared with its own decoder, not with cepe's.
TEST_F(LmRuns, AnotherModelChangesAgainstItself) {
  const Cepe other = open_lm_fixture("replug", 96);
  std::vector<NamedReader> readers = this->readers();
  readers.resize(1);
  readers.push_back({"model:other", window_reader(other, {.decoder_tokens = 32, .window = 96, .alone = true}), true});
  const WindowScoring scoring(model_, documents_, options_, readers);
  const LmRun run = run_lm(scoring, documents_, {directory_.path() / "other", {{"seed", 1}}, {}});
  const PerplexityRecord record = summarise(run.scores, "tiny", options_);
  std::map<std::string, std::map<std::string, double>> alone, change;  // by domain, then by reader
  std::map<std::string, double> longest;
  for (const Result& result : lm_results(record)) {
    const std::string domain = result.tags.at("domain"), reader = result.tags.at("reader");
    if (result.score == "perplexity" && result.tags.at("tokens") == "0") alone[domain][reader] = result.value.value;
    if (result.tags.at("tokens") != "48" || result.tags.at("context") != "own" || reader != "model:other") continue;
    if (result.score == "perplexity") longest[domain] = result.value.value;
    if (result.score == "change") change[domain][reader] = result.value.value;
  }
  for (const char* domain : {"a", "b"}) {
    ASSERT_EQ(alone[domain].size(), 2u);
    const double own = alone[domain].at("model:other");
    EXPECT_GT(std::abs(own / alone[domain].at("plain") - 1), 1e-3);
    EXPECT_NEAR(change[domain].at("model:other"), longest.at(domain) / own - 1, 1e-12);
  }
  EXPECT_THAT(lm_table(record), HasSubstr("| a | model:other: none | 0 |"));
  const auto plot = directory_.path() / "plot.svg";
  write_plot(record, plot);
  EXPECT_THAT(read_file(plot), HasSubstr("model:other</text>"));
}

// What a batch of windows computes together, and full attention in slices, is what one window at a time gives.
TEST_F(LmRuns, LossesDoNotDependOnTheBatch) {
  std::map<int64_t, PerplexityScores> scores;
  for (const int64_t batch : {1, 3}) {
    options_.batch = batch;
    std::vector<NamedReader> readers = this->readers();
    readers.push_back({"slices", window_reader(model_, {.decoder_tokens = 32, .window = 64, .tokens_at_once = 100}),
                       true, true, false});
    const WindowScoring scoring(model_, documents_, options_, readers);
    scores[batch] = run_lm(scoring, documents_, {directory_.path() / std::to_string(batch), {}, {}}).scores;
  }
  ASSERT_EQ(scores[1].rows.size(), scores[3].rows.size());
  std::set<std::string> readers;
  for (size_t r = 0; r < scores[1].rows.size(); ++r) {
    const ScoredRow &one = scores[1].rows[r], &three = scores[3].rows[r];
    readers.insert(one.reading.reader);
    ASSERT_EQ(one.windows, three.windows);
    for (size_t i = 0; i < one.nll.size(); ++i) {
      EXPECT_NEAR(one.nll[i], three.nll[i], 1e-11) << reading_name(one.reading) << " " << one.context_tokens;
    }
  }
  EXPECT_EQ(readers.size(), 1 + baseline_names().size() + 1);
}

}  // namespace
}  // namespace cepe
