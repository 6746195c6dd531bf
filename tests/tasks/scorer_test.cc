// The scores are compared with what RULER's own functions gave (tests/golden/ruler/record_scores.py).
#include "tasks/scorer.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"

namespace cepe {
namespace {

TEST(MatchScores, EqualRulersOwn) {
  const auto cases = nlohmann::json::parse(read_file(CEPE_TEST_DATA "/ruler/scores.json"));
  ASSERT_EQ(cases.size(), 120u);
  for (const auto& recorded : cases) {
    const std::string prediction = recorded.at("prediction");
    const std::vector<std::string> references = recorded.at("references");
    EXPECT_NEAR(match_all(prediction, references).at("match"), recorded.at("all").get<double>(), 1e-12) << recorded;
    EXPECT_EQ(match_any(prediction, references).at("match"), recorded.at("any").get<double>()) << recorded;
  }
}

TEST(MatchScores, NeedAReference) {
  EXPECT_THROW(match_all("a", {}), Error);
  EXPECT_THROW(match_any("a", {}), Error);
}

}  // namespace
}  // namespace cepe
