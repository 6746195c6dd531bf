// --preset: options from a file, those of configs/paper above all.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "base/file.h"
#include "base/preset.h"
#include "e2e/eval_samples.h"
#include "e2e/run_cepe.h"

namespace cepe {
namespace {

using nlohmann::json;
using testing::HasSubstr;

const std::filesystem::path kPaper = CEPE_TEST_DATA "/../../configs/paper";

std::vector<std::string> words_of(const std::string& command) {
  return {command.substr(0, command.find(' ')), command.substr(command.find(' ') + 1)};
}

class Presets : public testing::Test {
 protected:
  std::string path(const std::string& name) const { return (directory_.path() / name).string(); }
  std::vector<std::string> icl(const std::string& preset, const std::vector<std::string>& more) const {
    std::vector<std::string> arguments = {"eval",     "icl",  "--preset", preset, "--model", golden("published"),
                                          "--window", "4096", "--device", "cpu"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  TemporaryDirectory directory_;
};

// All options are read and checked before the model or the index is looked for, which is not there.
TEST_F(Presets, OfThePaperAreOptionsOfTheirCommands) {
  const std::string questions =
      directory_.write("q.jsonl", "{\"question\": \"who?\", \"answers\": [\"me\"], \"document\": \"A text.\"}\n");
  std::set<std::string> commands;
  int seen = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kPaper)) {
    ASSERT_EQ(entry.path().extension(), ".toml");
    const Preset preset = read_preset(entry.path());
    std::vector<std::string> arguments = words_of(preset.command);
    arguments.insert(arguments.end(),
                     {"--preset", entry.path().string(), "--model", "/no/model", "--out", path("out")});
    if (preset.command != "eval icl") arguments.insert(arguments.end(), {"--data", questions});
    if (preset.command == "eval retrieval-lm") arguments.insert(arguments.end(), {"--index", "/no/model"});
    const CommandResult result = run_cepe(arguments);
    EXPECT_EQ(result.status, 1);
    EXPECT_THAT(result.err, HasSubstr("/no/model")) << entry.path();
    commands.insert(preset.command);
    ++seen;
  }
  EXPECT_EQ(seen, 8);
  EXPECT_THAT(commands, testing::ElementsAre("eval icl", "eval lm", "eval long", "eval qa", "eval retrieval-lm"));
}

TEST_F(Presets, SetWhatWasNotTyped) {
  const std::string data = directory_.write("a.txt", "0 dull\n1 fine\n0 bad\n1 grand\n0 poor\n1 great\n");
  const CommandResult result = run_cepe(icl((kPaper / "in-context-learning.toml").string(),
                                            {"--out", path("out"), "--data", data, "--demonstrations=" + data, "--task",
                                             "sst2", "--limit=2", "--seeds", "5", "--encoder-shots", "0,4"}));
  ASSERT_EQ(result.status, 0) << result.err;
  const json set = json::parse(read_file(path("out") + "/run.json"));
  EXPECT_EQ(set["decoder_shots"], json({2}));
  EXPECT_EQ(set["decoder_alone"], json({40}));
  EXPECT_EQ(set["calibration"], "empty");
  EXPECT_EQ(set["in_order"], true);
  EXPECT_EQ(set["limit"], 2);
  EXPECT_EQ(set["seeds"], json({5}));
  EXPECT_EQ(set["encoder_shots"], json({0, 4}));
  EXPECT_EQ(set["data"].size(), 1u);
  EXPECT_EQ(samples_of(path("out")).size(), 2u * 5u);
}

TEST_F(Presets, ThatAreWrongAreRefusedByFileAndLine) {
  const auto refused = [&](const std::string& content, const std::string& phrase) {
    const std::string file = directory_.write("p.toml", content);
    expect_refused(icl(file, {"--out", path("x"), "--data", file}), phrase);
  };
  refused("[eval.icl]\nlimit = 3\ndecoder-shot = [2]\n",
          "p.toml:3: eval icl has no option \"decoder-shot\"; did you mean decoder-shots?");
  refused("[eval.qa]\nlimit = 3\n", "the preset is one of cepe eval qa, and this is cepe eval icl");
  refused("[eval.icl]\nlimit = [1, 2]\n", "p.toml:2: expected one value of \"limit\", found 2");
  refused("[eval.icl]\nlimit = true\n", "p.toml:2: expected \"limit\" to be a value, found true or false");
  refused("[eval.icl]\nin-order = 1\n", "p.toml:2: expected \"in-order\" to be true or false, found a value");
  refused("[eval.icl]\nlimit = \n", "p.toml:2: not valid TOML");
  refused("[eval.icl]\nlimit = \"many\"\n", "p.toml:2: --limit: expected a whole number");
  refused("[eval.icl]\n\nseeds = [1, \"x\"]\n", "p.toml:3: --seeds: expected a whole number");
  refused("[eval.icl]\ndemonstrations = [\"a\", \"--x\"]\n",
          "p.toml:2: expected the values of \"demonstrations\", found the option --x");
  refused("[eval.icl]\npreset = \"a\"\n", "p.toml:2: eval icl has no option \"preset\" (cepe");
  refused("[eval.icl]\nhelp = true\n", "p.toml:2: eval icl has no option \"help\" (cepe");
  refused("[eval.icl]\ncalibration = \"--x\"\n", "--calibration: expected none, empty, domain or content-free");
}

}  // namespace
}  // namespace cepe
