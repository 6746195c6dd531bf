// cepe eval as a user runs it: a tiny golden model on data of the test's own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "e2e/eval_samples.h"
#include "e2e/run_cepe.h"

namespace cepe {
namespace {

using nlohmann::json;
using testing::HasSubstr;

class EvalRecall : public testing::Test {
 protected:
  EvalRecall() {
    std::string words;
    for (const char* first : {"ba", "de", "gi", "lo", "mu", "na", "re", "so"}) {
      for (const char* second : {"ka", "ne", "pi", "to", "vu"}) words += std::string(first) + second + "\n";
    }
    data_.write("adjectivelist.txt", words);
    data_.write("nounlist.txt", words);
    std::filesystem::copy(CEPE_TEST_DATA "/ruler/squad.json", data_.path() / "squad.json");
    essays_ = data_.write("essays.txt", "It was a quiet morning. The road led to the harbour. Nobody was there yet. ");
  }

  // The tiny model's own window has 128 tokens, of about a letter each.
  std::vector<std::string> recall(const std::string& out, const std::vector<std::string>& more,
                                  const std::string& model = golden("published")) const {
    std::vector<std::string> arguments = {"eval",         "recall",     "--model",  model,     "--window",  "4096",
                                          "--data",       data_.path(), "--out",    path(out), "--lengths", "2k",
                                          "--max-tokens", "4",          "--device", "cpu"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  // Fails with the phrase; a note on the window comes before it.
  void fails(const std::vector<std::string>& arguments, const std::string& phrase) const {
    const CommandResult result = run_cepe(arguments);
    EXPECT_EQ(result.status, 1);
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, HasSubstr(phrase));
  }
  std::string path(const std::string& name) const { return (directory_.path() / name).string(); }

  TemporaryDirectory data_, directory_;
  std::string essays_;
};

TEST_F(EvalRecall, ScoresEachPlacementBesideTheOthers) {
  const CommandResult result =
      run_cepe(recall("out", {"--tasks", "niah_single_1,niah_single_2,needle", "--essays", essays_, "--limit", "2",
                              "--depths", "0,100", "--placement", "encoder,decoder,split"}));
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("| task | 2,048, encoder | 2,048, decoder | 2,048, split |"));
  EXPECT_THAT(result.out, HasSubstr("| mean of 2 |"));
  EXPECT_EQ(read_file(path("out") + "/table.md"), result.out);
  for (const char* file : {"plot.svg", "heat_needle_encoder.svg", "heat_needle_decoder.svg", "heat_needle_split.svg"}) {
    EXPECT_THAT(read_file(path("out") + "/" + file), HasSubstr("</svg>"));
  }

  const std::vector<json> samples = samples_of(path("out"));
  ASSERT_EQ(samples.size(), 3u * 2u * (1 + 1 + 2));
  std::map<std::string, std::vector<double>> scores;
  for (const json& sample : samples) {
    const std::string placement = sample.at("tags").at("placement");
    const int64_t context = sample.at("context_tokens"), prompt = sample.at("prompt_tokens");
    EXPECT_EQ(placement == "decoder", context == 0) << sample.at("id");
    EXPECT_LE(context + prompt + 4, 2048 + 4) << "a token where the text is cut";
    if (placement == "decoder") {
      EXPECT_GT(prompt, 1500);
    } else if (placement == "encoder") {
      EXPECT_LT(prompt, 400);
    }
    EXPECT_LE(sample.at("answer_tokens"), 4);
    EXPECT_EQ(sample.at("input").get<std::string>().size(), 64u);
    EXPECT_EQ(sample.at("references").size(), 1u);
    scores[sample.at("tags").at("task").get<std::string>() + " " + placement].push_back(
        sample.at("scores").at("match"));
  }

  const json results = json::parse(read_file(path("out") + "/results.json"));
  EXPECT_EQ(results.at("examples"), 24);
  EXPECT_EQ(results.at("resumed"), 0);
  EXPECT_GT(results.at("seconds"), 0);
  EXPECT_GT(results.at("peak_memory_bytes"), 1'000'000);
  EXPECT_EQ(results.at("configuration").at("seed"), 1);
  EXPECT_EQ(results.at("results").size(), 9u + 3u) << "tasks by placements, and their means";
  EXPECT_EQ(results.at("at_depths").size(), 6u);
  for (const json& row : results.at("results")) {
    const auto found = scores.find(row.at("tags").at("task").get<std::string>() + " " +
                                   row.at("tags").at("placement").get<std::string>());
    if (found == scores.end()) continue;
    double sum = 0;
    for (const double score : found->second) sum += score;
    EXPECT_EQ(row.at("n"), found->second.size());
    EXPECT_NEAR(row.at("value"), sum / static_cast<double>(found->second.size()), 1e-12);
  }
}

TEST_F(EvalRecall, AKilledRunGoesOnToTheSameFile) {
  const std::vector<std::string> more = {"--tasks",       "kv,qa_1,vt", "--limit", "6",       "--placement",
                                         "encoder,split", "--depths",   "50",      "--batch", "4"};
  const CommandResult whole = run_cepe(recall("whole", more));
  ASSERT_EQ(whole.status, 0) << whole.err;
  const std::string expected = read_file(path("whole") + "/samples.jsonl");
  const std::vector<json> samples = samples_of(path("whole"));
  ASSERT_EQ(samples.size(), 36u);

  // Killed once there are five records: in the middle of a group of four.
  const std::string file = path("killed") + "/samples.jsonl";
  const CommandResult killed =
      run_cepe(recall("killed", more),
               {.shell = "(for i in $(seq 6000); do if [ $(cat '" + file +
                         "' | wc -l) -ge 5 ]; then kill -9 $$; break; fi; sleep 0.005; done) >/dev/null 2>&1 & true"});
  ASSERT_EQ(killed.status, 128 + 9) << killed.err;
  const std::string left = read_file(file);
  ASSERT_LT(left.size(), expected.size());
  EXPECT_EQ(left, expected.substr(0, left.size()));

  // And what a writer might leave of its last record.
  write_file(file, expected.substr(0, expected.find('\n', left.size() / 2) + 40));
  const CommandResult resumed = run_cepe(recall("killed", more));
  ASSERT_EQ(resumed.status, 0) << resumed.err;
  EXPECT_EQ(read_file(file), expected);
  const auto results = [&](const std::string& name) { return json::parse(read_file(path(name) + "/results.json")); };
  EXPECT_GT(results("killed").at("resumed"), 0);
  EXPECT_EQ(results("killed").at("results"), results("whole").at("results"));
  EXPECT_EQ(read_file(path("killed") + "/table.md"), read_file(path("whole") + "/table.md"));

  // A finished run answers nothing again.
  const CommandResult again = run_cepe(recall("whole", more));
  EXPECT_EQ(again.status, 0) << again.err;
  EXPECT_EQ(results("whole").at("resumed"), 36);
  EXPECT_EQ(read_file(path("whole") + "/samples.jsonl"), expected);
}

TEST_F(EvalRecall, ADirectoryHoldsOneConfiguration) {
  ASSERT_EQ(run_cepe(recall("out", {"--tasks", "fwe", "--limit", "1"})).status, 0);
  fails(recall("out", {"--tasks", "fwe", "--limit", "1", "--seed", "2"}),
        "an evaluation with seed = 1 was begun here, now it is 2");
  const std::string file = path("out") + "/samples.jsonl";
  json sample = samples_of(path("out")).at(0);
  sample["input"] = "another";
  write_file(file, sample.dump() + "\n");
  fails(recall("out", {"--tasks", "fwe", "--limit", "1"}), "samples.jsonl:1: expected the record of fwe/2048");
}

TEST_F(EvalRecall, FormsDifferInTheQuestionAlone) {
  for (const std::string form : {"task", "question", "chat"}) {
    const CommandResult result = run_cepe(recall(form, {"--tasks", "qa_1", "--limit", "1", "--form", form}));
    ASSERT_EQ(result.status, 0) << result.err;
  }
  const json task = samples_of(path("task")).at(0), question = samples_of(path("question")).at(0),
             chat = samples_of(path("chat")).at(0);
  EXPECT_EQ(task.at("references"), question.at("references"));
  EXPECT_NE(task.at("input"), question.at("input"));
  EXPECT_GT(task.at("prompt_tokens"), question.at("prompt_tokens"));
  EXPECT_EQ(task.at("references"), chat.at("references"));
  EXPECT_NE(task.at("input"), chat.at("input"));
}

TEST_F(EvalRecall, APlainDecoderReadsTheTextItself) {
  const std::vector<std::string> more = {"--tasks", "vt", "--limit", "1"};
  ASSERT_EQ(run_cepe(recall("plain", more, golden("plain"))).status, 0);
  EXPECT_EQ(samples_of(path("plain")).at(0).at("tags").at("placement"), "decoder");
  fails(recall("x", {"--placement", "encoder"}, golden("plain")), "has no encoder");
}

TEST_F(EvalRecall, OptionsWithoutSenseAreRefused) {
  const auto refused = [&](const std::vector<std::string>& more, const std::string& phrase) {
    fails(recall("x", more), phrase);
  };
  refused({"--tasks", "needl"}, "--tasks: there is no recall task \"needl\"; did you mean needle?");
  refused({"--tasks", "needle"}, "needle: the data has no essays");
  refused({"--lengths", "4q"}, "--lengths: expected tokens such as 4096, 4k or 1M, found \"4q\"");
  refused({"--placement", "encoder,decoder,encoder"}, "--placement: expected each once, found encoder twice");
  refused({"--lengths", "4k,4k"}, "--lengths: expected each once, found 4k twice");
  refused({"--tasks", "kv,kv"}, "--tasks: expected each once, found kv twice");
  refused({"--placement", "nowhere"}, "--placement: expected encoder, decoder or split");
  refused({"--form", "x"}, "--form: expected task, question or chat");
  refused({"--depths", "101"}, "percent from 0 to 100");
  refused({"--limit", "0"}, "--limit");
  refused({"--essays", path("none")}, "none");
  expect_refused({"eval"}, "eval: no command is given: the commands are recall, qa, icl, long, lm, retrieval-lm");
  expect_refused({"eval", "recal"}, "unknown command \"recal\"; did you mean recall?");
  expect_refused({"eval", "recall", "--lenghts", "4k"},
                 "eval recall: unknown option --lenghts; did you mean --lengths?");
}

}  // namespace
}  // namespace cepe
