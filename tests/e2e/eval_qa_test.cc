// cepe eval qa as a user runs it: a tiny golden model on excerpts of published files (tests/golden/qa).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/file.h"
#include "e2e/eval_samples.h"
#include "e2e/run_cepe.h"

namespace cepe {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;

const std::string kData = CEPE_TEST_DATA "/qa/";

class EvalQa : public testing::Test {
 protected:
  // The tiny model's own window has 128 tokens, of about a letter each.
  std::vector<std::string> qa(const std::string& out, const std::vector<std::string>& files,
                              const std::vector<std::string>& more,
                              const std::string& model = golden("published")) const {
    std::vector<std::string> arguments = {"eval",     "qa",    "--model", model,          "--window",
                                          "4096",     "--out", path(out), "--max-tokens", "6",
                                          "--device", "cpu",   "--data"};
    for (const std::string& file : files) arguments.push_back(kData + file);
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

TEST_F(EvalQa, EachSettingIsAColumnWithItsControls) {
  const CommandResult result =
      run_cepe(qa("out", {"squad.json", "lost_in_the_middle.jsonl", "nq_open.jsonl"},
                  {"--decoder-passages", "0,1", "--encoder-passages", "2", "--gold", "always,never", "--gold-position",
                   "first", "--limit", "3", "--form", "question"}));
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out,
              testing::StartsWith("| questions | no passages | encoder 2, gold first | encoder 2, no gold | encoder 2, "
                                  "another question's | decoder 1 + encoder 2, gold in the encoder, first | "));
  for (const char* line : {"| squad, EM |", "| squad, F1 |", "| squad, has answer |", "| nq_open, F1 |"}) {
    EXPECT_THAT(result.out, HasSubstr(line));
  }
  EXPECT_THAT(result.err, HasSubstr("nq_open: the file has no passages"));
  EXPECT_EQ(read_file(path("out") + "/table.md"), result.out);
  EXPECT_THAT(read_file(path("out") + "/plot.svg"), HasSubstr("</svg>"));

  const std::vector<json> samples = samples_of(path("out"));
  ASSERT_EQ(samples.size(), 3u * 7u * 2u + 3u);
  std::map<std::string, std::vector<double>> f1;
  for (const json& sample : samples) {
    const json& tags = sample.at("tags");
    EXPECT_EQ(std::to_string(sample.at("sources").size()), tags.at("encoder").get<std::string>()) << sample.at("id");
    EXPECT_EQ(sample.at("context_tokens") == 0, tags.at("encoder") == "0");
    EXPECT_THAT(sample.at("prediction").get<std::string>(), Not(HasSubstr("\n")));
    f1[tags.at("task").get<std::string>() + tags.at("setting").get<std::string>()].push_back(
        sample.at("scores").at("f1"));
  }
  const json results = results_of("out");
  EXPECT_EQ(results.at("results").size(), (2u * 7u + 1u) * 3u);
  EXPECT_EQ(results.at("by_answerable").size(), 0u);
  EXPECT_EQ(results.at("configuration").at("command"), "eval qa");
  EXPECT_EQ(results.at("configuration").at("data").at(0).at("sha256"), sha256_file(kData + "squad.json"));
  for (const json& row : results.at("results")) {
    if (row.at("score") != "f1") continue;
    const std::vector<double>& values =
        f1.at(row.at("tags").at("task").get<std::string>() + row.at("tags").at("setting").get<std::string>());
    double sum = 0;
    for (const double value : values) sum += value;
    EXPECT_EQ(row.at("n"), values.size());
    EXPECT_NEAR(row.at("value"), sum / static_cast<double>(values.size()), 1e-12);
  }
}

TEST_F(EvalQa, AKilledRunGoesOnToTheSameFile) {
  const std::vector<std::string> more = {
      "--encoder-passages", "2", "--gold-position", "first,last", "--decoder-passages", "0,1",
      "--demonstrations",   "1", "--batch",         "4"};
  ASSERT_EQ(run_cepe(qa("whole", {"squad.json", "hotpotqa.json"}, more)).status, 0);
  const std::string expected = read_file(path("whole") + "/samples.jsonl"), file = path("killed") + "/samples.jsonl";
  const CommandResult killed =
      run_cepe(qa("killed", {"squad.json", "hotpotqa.json"}, more),
               {.shell = "(for i in $(seq 6000); do if [ $(cat '" + file +
                         "' | wc -l) -ge 5 ]; then kill -9 $$; break; fi; sleep 0.005; done) >/dev/null 2>&1 & true"});
  ASSERT_TRUE(killed.status == 128 + 9 || killed.status == 0) << killed.err;
  if (killed.status == 0) GTEST_SKIP() << "the run was faster than the kill";
  ASSERT_LT(read_file(file).size(), expected.size());
  ASSERT_EQ(run_cepe(qa("killed", {"squad.json", "hotpotqa.json"}, more)).status, 0);
  EXPECT_EQ(read_file(file), expected);
  EXPECT_GT(results_of("killed").at("resumed"), 0);
  EXPECT_EQ(results_of("killed").at("results"), results_of("whole").at("results"));
  fails(qa("killed", {"squad.json", "hotpotqa.json"}, {}), "an evaluation with");
}

TEST_F(EvalQa, QuestionsArePutIntoTheChatTemplate) {
  const CommandResult result =
      run_cepe(qa("out", {"squad.json"}, {"--form", "chat", "--encoder-passages", "1", "--limit", "2"}));
  ASSERT_EQ(result.status, 0) << result.err;
  const CommandResult task = run_cepe(qa("task", {"squad.json"}, {"--encoder-passages", "1", "--limit", "2"}));
  ASSERT_EQ(task.status, 0) << task.err;
  const std::vector<json> chat = samples_of(path("out")), plain = samples_of(path("task"));
  ASSERT_EQ(chat.size(), plain.size());
  for (size_t i = 0; i < chat.size(); ++i) {
    EXPECT_EQ(chat[i].at("id"), plain[i].at("id"));
    EXPECT_GT(chat[i].at("prompt_tokens"), plain[i].at("prompt_tokens"));
  }
}

TEST_F(EvalQa, ChunksOfThePassagesAreReadAgain) {
  const std::vector<std::string> more = {"--encoder-passages", "2", "--controls", "none", "--form", "question"};
  std::vector<std::string> expanded = more;
  expanded.insert(expanded.end(), {"--expand", "3"});
  ASSERT_EQ(run_cepe(qa("plain", {"squad.json"}, more)).status, 0);
  const CommandResult result = run_cepe(qa("expanded", {"squad.json"}, expanded));
  ASSERT_EQ(result.status, 0) << result.err;
  const std::vector<json> plain = samples_of(path("plain")), again = samples_of(path("expanded"));
  ASSERT_EQ(plain.size(), again.size());
  for (size_t i = 0; i < again.size(); ++i) {
    EXPECT_FALSE(plain[i].contains("expanded"));
    EXPECT_EQ(again[i].at("context_tokens"), plain[i].at("context_tokens"));
    int64_t read = 0;
    for (const json& place : again[i].at("expanded")) {
      read += place.at("tokens").get<int64_t>();
      const json& sources = again[i].at("sources");
      EXPECT_NE(std::find(sources.begin(), sources.end(), place.at("source")), sources.end());
    }
    EXPECT_LE(again[i].at("expanded").size(), 3u);
    EXPECT_GT(again[i].at("prompt_tokens").get<int64_t>(), plain[i].at("prompt_tokens").get<int64_t>() + read / 2);
  }
  EXPECT_EQ(results_of("expanded").at("configuration").at("expand").at("chunks"), 3);

  std::vector<std::string> top = more;
  top.insert(top.end(), {"--top-chunks", "1"});
  ASSERT_EQ(run_cepe(qa("top", {"squad.json"}, top)).status, 0);
  const std::vector<json> narrow = samples_of(path("top"));
  for (size_t i = 0; i < narrow.size(); ++i) {
    EXPECT_EQ(narrow[i].at("context_tokens"), plain[i].at("context_tokens"));
    EXPECT_EQ(narrow[i].at("prompt_tokens"), plain[i].at("prompt_tokens"));
    ASSERT_TRUE(narrow[i].contains("read_tokens")) << narrow[i];
    EXPECT_LT(narrow[i].at("read_tokens"), narrow[i].at("context_tokens"));
  }
  EXPECT_EQ(results_of("top").at("configuration").at("expand").at("top"), 1);
  fails(qa("expanded", {"squad.json"}, more), "an evaluation with other settings");
}

TEST_F(EvalQa, AnotherProgramsAnswersAreScoredAsTheModelsOwn) {
  std::vector<std::string> more = {
      "--encoder-passages", "1", "--decoder-passages", "1", "--form", "question", "--batch", "3"};
  ASSERT_EQ(run_cepe(qa("own", {"squad.json"}, more)).status, 0);
  std::vector<std::string> inputs = more;
  inputs.emplace_back("--inputs-only");
  const CommandResult written = run_cepe(qa("inputs", {"squad.json"}, inputs));
  ASSERT_EQ(written.status, 0) << written.err;
  EXPECT_FALSE(std::filesystem::exists(path("inputs") + "/samples.jsonl"));

  const std::vector<json> own = samples_of(path("own")), read = samples_of(path("inputs"), "inputs.jsonl");
  ASSERT_EQ(own.size(), read.size());
  std::string answers;
  for (size_t i = 0; i < own.size(); ++i) {
    for (const char* name : {"id", "tags", "references"}) EXPECT_EQ(own[i].at(name), read[i].at(name));
    EXPECT_EQ(read[i].at("input"), own[i].at("input"));
    EXPECT_EQ(read[i].at("documents").size(), own[i].at("sources").size());
    EXPECT_THAT(read[i].at("prompt").get<std::string>(), testing::EndsWith("\nAnswer:"));
    EXPECT_THAT(read[i].at("stop"), testing::Contains(json("\n")));
    // Another program need not stop where an answer ends.
    const std::string text = " \n" + own[i].at("prediction").get<std::string>() + "\nQuestion: and more";
    answers += json{{"id", own[i].at("id")},
                    {"input", own[i].at("input")},
                    {"text", text},
                    {"seconds", 0.5},
                    {"peak_memory_bytes", 7}}
                   .dump() +
               "\n";
  }
  write_file(path("answers.jsonl"), answers + "{\"id\": \"another\", \"text\": \"\", \"seconds\": 9}\n");
  more.insert(more.end(), {"--answers", path("answers.jsonl")});
  // The model's broken characters are more tokens when they are read again.
  std::vector<std::string> command = qa("given", {"squad.json"}, more);
  *(std::find(command.begin(), command.end(), "--max-tokens") + 1) = "60";
  const CommandResult given = run_cepe(command);
  ASSERT_EQ(given.status, 0) << given.err;
  EXPECT_THAT(given.err, HasSubstr("answers.jsonl: answers to no example of this run: 1"));
  const std::vector<json> scored = samples_of(path("given"));
  for (size_t i = 0; i < own.size(); ++i) {
    for (const char* name : {"id", "input", "prediction", "scores"}) EXPECT_EQ(own[i].at(name), scored[i].at(name));
    EXPECT_EQ(scored[i].at("stop_reason"), "given");
  }
  EXPECT_EQ(results_of("given").at("results"), results_of("own").at("results"));
  EXPECT_EQ(results_of("given").at("seconds"), 0.5 * static_cast<double>(own.size()));
  EXPECT_EQ(results_of("given").at("peak_memory_bytes"), 7);

  // An answer has no more of the model's tokens than the model's own may have.
  std::string long_answers;
  for (const json& sample : own) {
    long_answers += json{{"id", sample.at("id")}, {"text", "the quick brown fox jumps over the dog"}}.dump() + "\n";
  }
  write_file(path("answers.jsonl"), long_answers);
  ASSERT_EQ(run_cepe(qa("long", {"squad.json"}, more)).status, 0);
  for (const json& sample : samples_of(path("long"))) {
    EXPECT_EQ(sample.at("answer_tokens"), 6);
    const std::string prediction = sample.at("prediction");
    EXPECT_THAT("the quick brown fox jumps over the dog", testing::StartsWith(prediction));
    EXPECT_GE(prediction.size(), 3u);
  }

  const std::string first = answers.substr(0, answers.find('\n') + 1);
  const auto refused = [&](const std::string& content, const std::string& phrase) {
    write_file(path("answers.jsonl"), content);
    fails(qa("refused", {"squad.json"}, more), phrase);
    EXPECT_FALSE(std::filesystem::exists(path("refused")));
  };
  refused(first, "answers.jsonl: expected an answer to " + own[1].at("id").get<std::string>() + ", found none");
  refused(first + first, "answers.jsonl:2: expected one answer to ");
  refused("{\"id\": \"a\"}\n", "answers.jsonl:1: expected an object with the strings \"id\" and \"text\"");
  refused("{\"id\": \"a\", \"text\": \"\", \"seconds\": -1}",
          "expected \"seconds\" to be a number from 0 to 1e18, found -1");
  std::vector<std::string> other = more;
  std::replace(other.begin(), other.end(), std::string("question"), std::string("task"));
  write_file(path("answers.jsonl"), answers);
  fails(qa("refused", {"squad.json"}, other),
        "answers.jsonl: " + own[0].at("id").get<std::string>() + ": expected an answer to what the example reads");
  EXPECT_FALSE(std::filesystem::exists(path("refused")));
  more.insert(more.end(), {"--expand", "1"});
  refused(first, "--answers: another program has answered");
}

TEST_F(EvalQa, QuestionsWithoutAnAnswerHaveScoresOfTheirOwn) {
  const CommandResult result = run_cepe(qa("out", {"squad.json"}, {"--unanswerable", "--encoder-passages", "1"}));
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("| squad, unanswerable or not |"));
  const json results = results_of("out");
  int64_t with = 0, without = 0;
  for (const json& row : results.at("by_answerable")) {
    if (row.at("score") != "em" || row.at("tags").at("setting") != "encoder 1, gold") continue;
    (row.at("tags").at("answerable") == "yes" ? with : without) = row.at("n");
  }
  EXPECT_EQ(with, 4);
  EXPECT_EQ(without, 3);
}

TEST_F(EvalQa, APlainDecoderReadsThePassagesItself) {
  ASSERT_EQ(run_cepe(qa("plain", {"squad.json"}, {"--limit", "1"}, golden("plain"))).status, 0);
  const std::vector<json> samples = samples_of(path("plain"));
  ASSERT_EQ(samples.size(), 5u) << "none, one, five and their controls";
  EXPECT_EQ(samples.at(1).at("tags").at("decoder"), "1");
  EXPECT_GT(samples.at(1).at("prompt_tokens"), samples.at(0).at("prompt_tokens"));
  fails(qa("x", {"squad.json"}, {"--encoder-passages", "2"}, golden("plain")), "--encoder-passages 2: ");
}

TEST_F(EvalQa, RunsByTheOlderRuleOfWhiteSpaceDoNotGoOn) {
  const std::vector<std::string> command = qa("old", {"squad.json"}, {"--limit", "1", "--controls", "none"});
  ASSERT_EQ(run_cepe(command).status, 0);
  json run = json::parse(read_file(path("old") + "/run.json"));
  ASSERT_EQ(run.erase("leading_space"), 1u);
  write_file(path("old") + "/run.json", run.dump());
  fails(command, "an evaluation with");
}

TEST_F(EvalQa, OptionsWithoutSenseAreRefused) {
  const auto refused = [&](const std::vector<std::string>& more, const std::string& phrase) {
    fails(qa("x", {"squad.json"}, more), phrase);
  };
  refused({"--inputs-only", "--expand", "2"}, "--inputs-only: nothing is answered, so that --expand has nothing to do");
  refused({"--inputs-only", "--answers", "a.jsonl"},
          "--inputs-only: nothing is answered, so that --answers has nothing to do");
  refused({"--gold", "sometimes"}, "--gold: expected always, never or retrieved, found \"sometimes\"");
  refused({"--gold-position", "second"}, "--gold-position: expected first, middle, last, random or a number");
  refused({"--gold-position", "7"}, "expected a place below the 1 passages of the encoder, found 7");
  refused({"--gold-reader", "both"}, "--gold-reader: expected encoder or decoder");
  refused({"--distractors", "none"}, "--distractors: expected article or others");
  refused({"--controls", "all"}, "--controls: expected no-passages, other-passages or none");
  refused({"--encoder-passages", "-1"}, "--encoder-passages: expected 0 or more, found -1");
  refused({"--limit", "-1"}, "--limit");
  refused({"--evidence", kData}, "--evidence: expected a file of TriviaQA's among --data, found none");
  refused({"--data-form", "squad2"}, "--data-form: expected one of auto, dpr, squad");
  refused({"--data-form", "plain"}, "squad.json: expected a JSON array of questions");
  fails(qa("x", {"none.json"}, {}), "none.json");
}

}  // namespace
}  // namespace cepe
