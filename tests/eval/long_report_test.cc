#include "eval/long/long_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "base/temporary_directory.h"

namespace cepe {
namespace {

using testing::HasSubstr;
using testing::Not;

ScoredExample scored(const std::string& task, const std::string& setting, const std::string& length, Scores scores) {
  const bool none = setting == "no document";
  return {{{"task", task},
           {"setting", setting},
           {"placement", none ? "none" : setting},
           {"document", none ? "none" : "own"},
           {"length", length},
           {"cut", setting == "decoder" && length == "8192" ? "yes" : "no"}},
          "",
          std::move(scores)};
}

Scores rouge(double all) {
  return {{"rouge1", all},  {"rouge2", all / 2}, {"rougeL", all},
          {"rouge-1", all}, {"rouge-2", 0},      {"rouge-l", all / 4}};
}

TEST(LongReport, HasALineForEachScoreAndSaysWhatWasCut) {
  std::vector<ScoredExample> examples;
  for (const char* length : {"4096", "8192"}) {
    examples.push_back(scored("gov_report", "no document", length, rouge(0.2)));
    examples.push_back(scored("gov_report", "encoder", length, rouge(0.4)));
    examples.push_back(scored("gov_report", "decoder", length, rouge(0.8)));
    examples.push_back(scored("quality", "encoder", length, {{"accuracy", 1}}));
  }
  const LongReport report = report_long(examples);
  EXPECT_EQ(long_table(report),
            "| questions | no document | encoder | decoder |\n"
            "|---|---:|---:|---:|\n"
            "| gov_report, ROUGE-1 (rouge-score) | 20.0 | 40.0 | 80.0 |\n"
            "| gov_report, ROUGE-2 (rouge-score) | 10.0 | 20.0 | 40.0 |\n"
            "| gov_report, ROUGE-L (rouge-score) | 20.0 | 40.0 | 80.0 |\n"
            "| gov_report, ROUGE-1 (rouge) | 20.0 | 40.0 | 80.0 |\n"
            "| gov_report, ROUGE-2 (rouge) | 0.0 | 0.0 | 0.0 |\n"
            "| gov_report, ROUGE-L (rouge) | 5.0 | 10.0 | 20.0 |\n"
            "| quality, accuracy |  | 100.0 |  |\n"
            "\ndecoder: the middle of the document was cut out in 1 of 2 examples.\n");
  ASSERT_EQ(report.by_length.size(), 8u);
  for (const Result& result : report.by_length) EXPECT_EQ(result.score, "main");
}

TEST(LongReport, DrawsTheMeanOfTheTasksOverTheLength) {
  const TemporaryDirectory directory;
  write_long_plot(report_long(std::vector<ScoredExample>{scored("gov_report", "encoder", "4096", rouge(0.2)),
                                                         scored("quality", "encoder", "4096", {{"accuracy", 1}}),
                                                         scored("quality", "decoder", "8192", {{"accuracy", 0}})}),
                  directory.path() / "plot.svg");
  const std::string plot = read_file(directory.path() / "plot.svg");
  EXPECT_THAT(plot, HasSubstr("encoder"));
  EXPECT_THAT(plot, HasSubstr("decoder"));
  EXPECT_THAT(plot, HasSubstr("main score"));
  EXPECT_THAT(plot, Not(HasSubstr("nan")));
}

}  // namespace
}  // namespace cepe
