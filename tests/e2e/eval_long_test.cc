// cepe eval long as a user runs it: a tiny golden model on made-up files of published forms.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "base/file.h"
#include "e2e/eval_samples.h"
#include "e2e/run_cepe.h"

namespace cepe {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;

class EvalLong : public testing::Test {
 protected:
  void SetUp() override {
    std::string exam, reports;
    for (int i = 0; i < 3; ++i) {
      std::string text;
      for (int word = 0; word < 12 + 6 * i; ++word) text += "the harbour " + std::to_string(i * 100 + word) + " ";
      exam += json({{"input", text},
                    {"instructions", {"Which harbour?\nA. sky\nB. rain", "Whose harbour?\nA. town\nB. road"}},
                    {"outputs", {"A", "B"}},
                    {"evaluation", "exam"}})
                  .dump() +
              "\n";
      reports += json({{"report", text}, {"summary", "The harbour."}}).dump() + "\n";
    }
    directory_.write("exam.jsonl", exam);
    directory_.write("reports.jsonl", reports + "{\"report\": \"x\"}\n");
  }
  // The tiny model's own window has 128 tokens, of about a letter each.
  std::vector<std::string> command(const std::string& out, const std::vector<std::string>& more,
                                   const std::string& model = golden("published")) const {
    std::vector<std::string> arguments = {"eval",
                                          "long",
                                          "--model",
                                          model,
                                          "--window",
                                          "340",
                                          "--out",
                                          path(out),
                                          "--max-tokens",
                                          "6",
                                          "--device",
                                          "cpu",
                                          "--data",
                                          path("exam.jsonl"),
                                          path("reports.jsonl")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  void fails(const std::vector<std::string>& arguments, const std::string& phrase) const {
    const CommandResult result = run_cepe(arguments);
    EXPECT_EQ(result.status, 1);
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, HasSubstr(phrase));
  }
  std::string path(const std::string& name) const { return (directory_.path() / name).string(); }
  json results_of(const std::string& out) const { return json::parse(read_file(path(out) + "/results.json")); }

  TemporaryDirectory directory_;
};

TEST_F(EvalLong, EachPlacementIsAColumnWithItsControls) {
  const CommandResult result = run_cepe(command("out", {"--placement", "encoder,decoder,split"}));
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out,
              testing::StartsWith("| questions | no document | encoder | encoder, another's document | decoder"
                                  " | decoder, another's document | split | split, another's document |"));
  for (const char* line :
       {"| exam, accuracy |", "| reports, ROUGE-L (rouge-score) |", "| reports, ROUGE-L (rouge) |"}) {
    EXPECT_THAT(result.out, HasSubstr(line));
  }
  EXPECT_THAT(result.out, HasSubstr("decoder: the middle of the document was cut out in "));
  EXPECT_THAT(result.err, HasSubstr("reports.jsonl:4: \"summary\" is missing"));
  EXPECT_THAT(read_file(path("out") + "/plot.svg"), HasSubstr("</svg>"));

  const std::vector<json> samples = samples_of(path("out"));
  ASSERT_EQ(samples.size(), (6u + 3u) * 7u);
  for (const json& sample : samples) {
    const json& tags = sample.at("tags");
    const bool encoder = tags.at("placement") == "encoder" || tags.at("placement") == "split";
    EXPECT_EQ(sample.at("context_tokens") > 0, encoder) << sample.at("id");
    if (tags.at("task") == "exam") {
      ASSERT_EQ(sample.at("option_losses").size(), 2u);
      const bool first = sample.at("option_losses")[0] <= sample.at("option_losses")[1];
      EXPECT_EQ(sample.at("prediction"), first ? "A" : "B");
      EXPECT_EQ(sample.at("stop_reason"), "chosen");
      EXPECT_EQ(sample.at("scores").at("accuracy"), sample.at("prediction") == sample.at("references")[0] ? 1 : 0);
    } else {
      EXPECT_FALSE(sample.contains("option_losses"));
      EXPECT_LE(sample.at("answer_tokens"), 6);
    }
  }
  const json results = results_of("out");
  EXPECT_EQ(results.at("configuration").at("command"), "eval long");
  EXPECT_EQ(results.at("results").size(), 7u + 7u * 6u);
}

TEST_F(EvalLong, AKilledRunGoesOnToTheSameFile) {
  const std::vector<std::string> more = {"--placement", "encoder,decoder", "--batch", "4", "--controls", "none"};
  ASSERT_EQ(run_cepe(command("whole", more)).status, 0);
  const std::string expected = read_file(path("whole") + "/samples.jsonl"), file = path("killed") + "/samples.jsonl";
  const CommandResult killed =
      run_cepe(command("killed", more),
               {.shell = "(for i in $(seq 6000); do if [ $(cat '" + file +
                         "' | wc -l) -ge 5 ]; then kill -9 $$; break; fi; sleep 0.005; done) >/dev/null 2>&1 & true"});
  ASSERT_TRUE(killed.status == 128 + 9 || killed.status == 0) << killed.err;
  if (killed.status == 0) GTEST_SKIP() << "the run was faster than the kill";
  ASSERT_LT(read_file(file).size(), expected.size());
  ASSERT_EQ(run_cepe(command("killed", more)).status, 0);
  EXPECT_EQ(read_file(file), expected);
  EXPECT_EQ(results_of("killed").at("results"), results_of("whole").at("results"));
  fails(command("killed", {}), "an evaluation with");
}

TEST_F(EvalLong, OptionsCanBeWrittenAndChunksReadAgain) {
  const CommandResult result = run_cepe(command("out", {"--choices", "written", "--expand", "2", "--controls", "none",
                                                        "--limit", "2", "--form", "chat", "--stem"}));
  ASSERT_EQ(result.status, 0) << result.err;
  for (const json& sample : samples_of(path("out"))) {
    EXPECT_FALSE(sample.contains("option_losses"));
    EXPECT_TRUE(sample.contains("expanded")) << sample.at("id");
  }
  const CommandResult chosen =
      run_cepe(command("chosen", {"--expand", "2", "--controls", "none", "--limit", "2", "--metric", "choice"}));
  EXPECT_EQ(chosen.status, 1) << "reports have no options";
  EXPECT_THAT(chosen.err, HasSubstr("reports.jsonl:1: expected a question with options to choose from"));
}

TEST_F(EvalLong, APlainDecoderReadsTheTextItself) {
  ASSERT_EQ(run_cepe(command("plain", {"--limit", "1"}, golden("plain"))).status, 0);
  EXPECT_EQ(samples_of(path("plain")).at(1).at("tags").at("setting"), "decoder");
  fails(command("x", {"--placement", "split"}, golden("plain")), "--placement split: ");
}

TEST_F(EvalLong, PromptsComeFromAFile) {
  const std::string prompts =
      directory_.write("prompts.json", R"({"exam": "{context} Now: {input}", "reports": "{context} So:"})");
  ASSERT_EQ(run_cepe(command("out", {"--prompts", prompts, "--limit", "1"})).status, 0);
  EXPECT_EQ(results_of("out").at("configuration").at("prompts").at(0).at("sha256"), sha256_file(prompts));
  fails(command("x", {"--prompts", directory_.write("bad.json", R"({"exam": "no place"})")}),
        "bad.json: \"exam\": expected a text with {context} in it");
  fails(command("x", {"--prompts", prompts, "--form", "question"}), "--prompts: the form question has no words but");
}

TEST_F(EvalLong, FilesOfOneNameGetTheirDirectorys) {
  std::vector<std::string> arguments = command("out", {"--limit", "1", "--controls", "none"});
  for (const char* directory : {"da", "db"}) {
    std::filesystem::create_directories(path(directory));
    std::filesystem::copy(path("exam.jsonl"), path(directory) + "/test.jsonl");
    arguments.insert(arguments.end() - 4, path(directory) + "/test.jsonl");
  }
  const CommandResult result = run_cepe(arguments);
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, testing::AllOf(HasSubstr("| da/test, accuracy |"), HasSubstr("| db/test, accuracy |"),
                                         HasSubstr("| exam, accuracy |")));
  arguments.insert(arguments.end() - 4, path("da") + "/test.jsonl");
  fails(arguments, "da/test.jsonl both hold a set called da/test: rename");
}

TEST_F(EvalLong, OptionsWithoutSenseAreRefused) {
  const auto refused = [&](const std::vector<std::string>& more, const std::string& phrase) {
    fails(command("x", more), phrase);
  };
  refused({"--placement", "encoder,encoder"}, "--placement: expected each once, found encoder twice");
  refused({"--placement", "both"}, "--placement: expected encoder, decoder or split");
  refused({"--controls", "all"}, "--controls: expected no-document, other-document or none, found \"all\"");
  refused({"--choices", "guess"}, "--choices: expected likelihood or written");
  refused({"--metric", "bleu"}, "--metric: expected one of auto, f1, rouge");
  refused({"--data-form", "squad"}, "--data-form: expected one of auto, leval");
  refused({"--length", "long"}, "--length: expected tokens such as 4096, 4k or 1M");
  refused({"--limit", "-1"}, "--limit: expected 1 or more, or 0 for all, found -1");
}

}  // namespace
}  // namespace cepe
