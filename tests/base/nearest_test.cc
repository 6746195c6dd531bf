#include "base/nearest.h"

#include <gtest/gtest.h>

namespace cepe {
namespace {

const std::vector<std::string> kCommands{"info", "generate", "perplexity", "verify", "data", "train", "--help"};

TEST(Nearest, FindsTheWordThatWasMeant) {
  EXPECT_EQ(nearest("generat", kCommands), "generate");
  EXPECT_EQ(nearest("genrate", kCommands), "generate");
  EXPECT_EQ(nearest("Generate", kCommands), "generate");
  EXPECT_EQ(nearest("gen", kCommands), "generate");
  EXPECT_EQ(nearest("trian", kCommands), "train");  // two letters swapped are one change
  EXPECT_EQ(nearest("help", kCommands), "--help");
  EXPECT_EQ(nearest("--max_tokens", {"--max-tokens", "--tokens"}), "--max-tokens");
  EXPECT_EQ(nearest("-modle", {"--model", "--mode"}), "--model");
}

TEST(Nearest, ProposesNothingFarAway) {
  EXPECT_EQ(nearest("compose", kCommands), "");
  EXPECT_EQ(nearest("x", kCommands), "");
  EXPECT_EQ(nearest("", kCommands), "");
  EXPECT_EQ(nearest("info", {}), "");
}

TEST(Nearest, Sentence) {
  EXPECT_EQ(did_you_mean("dat", kCommands), "; did you mean data?");
  EXPECT_EQ(did_you_mean("compose", kCommands), "");
}

}  // namespace
}  // namespace cepe
