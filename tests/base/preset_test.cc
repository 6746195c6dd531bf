// Options of commands in files.
#include "base/preset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>

#include "base/error_of.h"
#include "base/temporary_directory.h"

namespace cepe {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class PresetFile : public testing::Test {
 protected:
  Preset read(const std::string& content) const {
    std::ofstream(directory_ / "p.toml") << content;
    return read_preset(directory_ / "p.toml");
  }
  void refused(const std::string& content, const std::string& phrase) const {
    EXPECT_THAT(error_of([&] { read(content); }), HasSubstr(phrase));
  }
  TemporaryDirectory directory_;
};

TEST_F(PresetFile, HoldsOneCommandsOptions) {
  const Preset preset =
      read("# a comment\n[eval.icl]\nseeds = [42, 7]\nin-order = true\ntask = \"sst2\"\nscale = 0.5\n");
  EXPECT_EQ(preset.command, "eval icl");
  std::map<std::string, PresetOption> options;
  for (const PresetOption& option : preset.options) options[option.name] = option;
  ASSERT_EQ(options.size(), 4u);
  EXPECT_THAT(options.at("seeds").values, ElementsAre("42", "7"));
  EXPECT_THAT(options.at("in-order").values, ElementsAre("true"));
  EXPECT_THAT(options.at("task").values, ElementsAre("sst2"));
  EXPECT_THAT(options.at("scale").values, ElementsAre("0.5"));
  EXPECT_EQ(options.at("task").where, (directory_ / "p.toml").string() + ":5");
  for (const auto& [name, option] : options) EXPECT_EQ(option.flag, name == "in-order");
}

TEST_F(PresetFile, WhatIsNoPresetIsRefusedByLine) {
  refused("limit = 3\n", "expected one table with the name of a command");
  refused("", "expected one table with the name of a command");
  refused("[eval.icl]\nlimit = 3\n[eval.icl.more]\na = 1\n", "p.toml:3: expected the options of one command");
  refused("[eval.icl]\na = 1\n[eval.qa]\na = 1\n", "expected the options of one command");
  refused("[eval.icl]\nlimit = 1979-05-27\n", "p.toml:2: expected limit to be a boolean, a number");
  refused("[eval.icl]\nlimit = [[1]]\n", "p.toml:2: expected limit to be a boolean, a number");
  refused("[eval.icl]\nseeds = []\n", "p.toml:2: seeds is an empty array");
  refused("[eval.icl]\n\nlimit = \n", "p.toml:3: not valid TOML");
  EXPECT_THAT(error_of([&] { read_preset(directory_ / "none.toml"); }), HasSubstr("none.toml"));
}

}  // namespace
}  // namespace cepe
