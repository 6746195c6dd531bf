#include "eval/question_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "base/temporary_directory.h"

namespace cepe {
namespace {

using testing::HasSubstr;
using testing::Not;

ScoredExample scored(const std::string& setting, const std::string& encoder, const std::string& gold,
                     const std::string& position, double f1) {
  const std::string reader = gold == "always" ? "encoder" : "none";
  return {{{"task", "towns"},
           {"setting", setting},
           {"decoder", "0"},
           {"encoder", encoder},
           {"gold", gold},
           {"reader", reader},
           {"position", position},
           {"answerable", "yes"}},
          "",
          {{"em", f1 == 1 ? 1.0 : 0.0}, {"f1", f1}, {"has_answer", 1}}};
}

TEST(QuestionReport, HasALineForEachScoreAndAColumnForEachSetting) {
  std::vector<ScoredExample> examples;
  for (const double f1 : {1.0, 0.5, 0.5, 0.0, 0.0}) {
    examples.push_back(scored("no passages", "0", "none", "none", 0));
    examples.push_back(scored("encoder 2, gold first", "2", "always", "first", f1));
  }
  const QuestionReport report = report_questions(examples);
  EXPECT_EQ(question_table(report),
            "| questions | no passages | encoder 2, gold first |\n"
            "|---|---:|---:|\n"
            "| towns, EM | 0.0 ± 0.0 | 20.0 ± 20.0 |\n"
            "| towns, F1 | 0.0 ± 0.0 | 40.0 ± 18.7 |\n"
            "| towns, has answer | 100.0 ± 0.0 | 100.0 ± 0.0 |\n");
  EXPECT_TRUE(report.by_answerable.empty());
}

TEST(QuestionReport, DrawsPassagesOrPlaces) {
  const TemporaryDirectory directory;
  const auto drawn = [&](const std::vector<ScoredExample>& examples) {
    write_question_plot(report_questions(examples), directory.path() / "plot.svg");
    return read_file(directory.path() / "plot.svg");
  };
  std::vector<ScoredExample> examples = {scored("no passages", "0", "none", "none", 0),
                                         scored("encoder 5, gold first", "5", "always", "first", 0.5),
                                         scored("encoder 9, gold first", "9", "always", "first", 0.6),
                                         scored("encoder 9, no gold", "9", "never", "none", 0.1)};
  const std::string passages = drawn(examples);
  EXPECT_THAT(passages, HasSubstr("towns: encoder, gold first"));
  EXPECT_THAT(passages, HasSubstr("towns: encoder, no gold"));
  EXPECT_THAT(passages, Not(HasSubstr("place of the gold passage")));
  examples.push_back(scored("encoder 9, gold last", "9", "always", "last", 0.4));
  const std::string places = drawn(examples);
  EXPECT_THAT(places, HasSubstr("place of the gold passage"));
  EXPECT_THAT(places, HasSubstr("towns: decoder 0, encoder 9, gold in the encoder"));
}

}  // namespace
}  // namespace cepe
