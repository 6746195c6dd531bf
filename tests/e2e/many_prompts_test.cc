// cepe generate --prompts: many prompts in one process.
#include <gtest/gtest.h>
#include <sys/types.h>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "e2e/run_cepe.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Words = std::vector<std::string>;

class ManyPrompts : public testing::Test {
 protected:
  static std::string lines(const std::vector<json>& records) {
    std::string text;
    for (const json& record : records) text += record.dump() + "\n";
    return text;
  }
  static std::vector<json> parsed(const std::string& text) {
    std::vector<json> out;
    for (size_t at = 0; at < text.size(); at = text.find('\n', at) + 1)
      out.push_back(json::parse(text.substr(at, text.find('\n', at) - at)));
    return out;
  }
  Words words(const std::vector<json>& records, const Words& more = {}, const std::string& model = "published") const {
    Words out = {"generate", "--model", golden(model), "--prompts", directory_.write("p.jsonl", lines(records)),
                 "--dtype",  "float32", "--out",       out_};
    out.insert(out.end(), more.begin(), more.end());
    return out;
  }
  std::vector<json> answers(const std::vector<json>& records, const Words& more = {}) const {
    const CommandResult result = run_cepe(words(records, more));
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(result.out, "");
    return parsed(read_file(out_));
  }
  std::string document(const std::string& name, int houses) const {
    std::string text;
    for (int i = 0; i < houses; ++i) text += name + ": house " + std::to_string(i) + " stood on the hill.\n";
    return directory_.write(name, text);
  }
  const TemporaryDirectory directory_;
  const std::string out_ = (directory_.path() / "answers.jsonl").string();
};

// A record with options of its own, and the command line that means the same.
struct Pair {
  json record;
  Words options;
};

TEST_F(ManyPrompts, AreAnsweredAsOneByOne) {
  const std::string one = document("one.txt", 30), two = document("two.txt", 20);
  const std::vector<Pair> pairs = {
      {{{"prompt", "Who goes there?"}, {"context", {one}}}, {"--context", one}},
      {{{"prompt", "The road?"}, {"context", one}, {"max_tokens", 40}}, {"--context", one, "--max-tokens", "40"}},
      {{{"prompt", "The rain?"}, {"id", {{"a", 1}}}, {"max_tokens", 3}}, {"--max-tokens", "3"}},
      {{{"prompt", "The rain?"}, {"context", {two, one}}, {"system", "Be brief."}, {"id", 7}},
       {"--context", two, one, "--system", "Be brief."}},
      {{{"prompt", "The town?"}, {"context", {one}}, {"top_p", 0.9}, {"seed", 5}},
       {"--context", one, "--top-p", "0.9", "--seed", "5"}},
      {{{"prompt", "The town?"}, {"temperature", 0.7}, {"top_k", 20}, {"min_p", 0.01}, {"seed", 6}},
       {"--temperature", "0.7", "--top-k", "20", "--min-p", "0.01", "--seed", "6"}},
      {{{"prompt", "The hill?"}, {"context_text", read_file(two)}, {"repetition_penalty", 1.3}},
       {"--context", two, "--repetition-penalty", "1.3"}},
      {{{"prompt", "The hill?"}, {"context", one}, {"context_text", {read_file(two)}}}, {"--context", one, two}},
      {{{"prompt", "Who goes there?"}, {"stop", {"a", "e"}}}, {"--stop", "a", "--stop", "e"}}};
  std::vector<json> records, expected;
  for (const Pair& pair : pairs) {
    records.push_back(pair.record);
    Words single = {"generate", "--model", golden("published"), "--dtype",
                    "float32",  "--json",  "--prompt",          pair.record["prompt"]};
    single.insert(single.end(), pair.options.begin(), pair.options.end());
    if (!pair.record.contains("max_tokens")) single.insert(single.end(), {"--max-tokens", "20"});
    const CommandResult result = run_cepe(single);
    ASSERT_EQ(result.status, 0) << result.err;
    expected.push_back(json::parse(result.out));
  }
  // One at a time, a few, and more than there are.
  for (const char* sequences : {"1", "3", "16"}) {
    SCOPED_TRACE(sequences);
    const std::vector<json> made = answers(records, {"--max-tokens", "20", "--sequences", sequences});
    ASSERT_EQ(made.size(), pairs.size());
    for (size_t i = 0; i < made.size(); ++i) {
      SCOPED_TRACE(i);
      EXPECT_EQ(made[i]["index"], i);
      EXPECT_EQ(made[i]["id"], records[i].value("id", json()));
      for (const char* key : {"text", "tokens", "stop_reason", "context_tokens", "prompt_tokens", "generated_tokens"})
        EXPECT_EQ(made[i][key], expected[i][key]) << key;
    }
  }
}

TEST_F(ManyPrompts, TheOptionsHoldForWhatARecordLeavesOut) {
  const std::string one = document("one.txt", 5);
  const std::vector<json> made =
      answers({{{"prompt", "Who?"}}, {{"prompt", "Who?"}, {"context", json::array()}, {"max_tokens", 2}}},
              {"--context", one, "--max-tokens", "4", "--system", "Be brief."});
  EXPECT_GT(made[0]["context_tokens"], 0);
  EXPECT_EQ(made[1]["context_tokens"], 0);
  EXPECT_EQ(made[0]["generated_tokens"], 4);
  EXPECT_EQ(made[1]["generated_tokens"], 2);
}

TEST_F(ManyPrompts, ABadRecordIsToldBeforeAnythingIsWritten) {
  write_file(out_, "what was there before");
  const json good = {{"prompt", "Who?"}};
  const auto refused = [&](const json& bad, const std::string& phrase, const std::string& model = "published") {
    expect_refused(words({good, bad}, {}, model), "p.jsonl:2: " + phrase);
    EXPECT_EQ(read_file(out_), "what was there before");
  };
  refused({{"prompt", "Who?"}, {"contxt", "a"}}, "unknown key \"contxt\"; did you mean context?");
  refused({{"text", "Who?"}}, "unknown key \"text\"");
  refused({{"prompt", "Who?"}, {"context", "/absent.txt"}}, "context: there is no file /absent.txt");
  refused({{"prompt", std::string(400, '?')}}, "the prompt has ");
  refused({{"prompt", "Who?"}, {"context_text", "A text"}}, "a context needs an encoder", "plain");
}

TEST_F(ManyPrompts, ARecordThatFailsDoesNotStopTheOthers) {
  const std::string bad = directory_.write("bad.txt", "a\xff"), one = document("one.txt", 5);
  const CommandResult result = run_cepe(words({{{"prompt", "Who?"}, {"context", one}, {"id", "first"}},
                                               {{"prompt", "Who?"}, {"context", {one, bad}}, {"id", "second"}},
                                               {{"prompt", "Who?"}, {"context", one}, {"id", "third"}}},
                                              {"--max-tokens", "3"}));
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("cepe: 1 of 3 prompts failed"), std::string::npos) << result.err;
  const std::vector<json> made = parsed(read_file(out_));
  ASSERT_EQ(made.size(), 3u);
  EXPECT_EQ(made[0]["text"], made[2]["text"]);
  EXPECT_FALSE(made[1].contains("text"));
  EXPECT_EQ(made[1]["id"], "second");
  EXPECT_NE(made[1]["error"].get<std::string>().find("bad.txt"), std::string::npos);
}

TEST_F(ManyPrompts, EndedInTheMiddleTheyLeaveNothing) {
  write_file(out_, "what was there before");
  const size_t files = static_cast<size_t>(std::distance(fs::directory_iterator(directory_.path()), {})) + 1;
  // Its greedy answer does not end by itself.
  const std::vector<json> records(40, {{"prompt", "Who goes there?"}, {"max_tokens", 20000}});
  const Words command = words(records, {"--window", "50000", "--sequences", "2"}, "plain");
  // Ctrl-C after two seconds: minutes of work are left.
  const CommandResult result = run_cepe(command, {.shell = "me=$$; (sleep 2; kill -INT $me) > /dev/null 2>&1 & true"});
  EXPECT_EQ(result.status, 128 + 2) << result.err;
  EXPECT_EQ(read_file(out_), "what was there before");
  EXPECT_EQ(static_cast<size_t>(std::distance(fs::directory_iterator(directory_.path()), {})), files);
}

TEST_F(ManyPrompts, MayGoToStandardOutput) {
  Words command = words({{{"prompt", "Who?"}}, {{"prompt", "The rain?"}}}, {"--max-tokens", "3"});
  command[8] = "-";
  const CommandResult result = run_cepe(command);
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(parsed(result.out).size(), 2u);
  EXPECT_NE(result.err.find("cepe: 2 prompts, 0 context tokens encoded, "), std::string::npos) << result.err;
}

TEST_F(ManyPrompts, OptionsThatDoNotGoTogetherAreRefused) {
  const json good = {{"prompt", "Who?"}};
  expect_refused(words({good}, {"--prompt", "a"}), "--prompt: it is for one prompt");
  expect_refused(words({good}, {"--json"}), "--json: it is for one prompt");
  expect_refused(words({good}, {"--attention-mass"}), "--attention-mass: it is for one prompt");
  expect_refused(words({good}, {"--sequences", "-1"}), "--sequences");
  expect_refused({"generate", "--model", golden("plain"), "--prompt", "a", "--out", "b"},
                 "--out: it is for many prompts");
  expect_refused(words({good, good}, {"--expand", "1"}), "--expand: there is no context: no record of");
  Words same = words({good});
  same[8] = same[4];
  expect_refused(same, "found an input of the command");
  Words none = words({good});
  none.resize(7);
  expect_refused(none, "--prompts: --out FILE is needed");
}

TEST_F(ManyPrompts, ReadChunksAgain) {
  const std::string one = document("one.txt", 30), two = directory_.write("two.txt", "The boats said nothing.");
  const std::vector<json> made =
      answers({{{"prompt", "Who sailed the boats?"}, {"context", {one, two}}},
               {{"prompt", "The boats said nothing.\n\nWho sailed the boats?"}, {"context", {one, two}}},
               {{"prompt", "Who sailed the boats?"}}},
              {"--expand", "1", "--max-tokens", "8", "--window", "512"});
  ASSERT_EQ(made.size(), 3u);
  ASSERT_EQ(made[0].at("expanded").size(), 1u);
  EXPECT_EQ(made[0].at("expanded")[0].at("source"), two);
  EXPECT_FALSE(made[2].contains("expanded"));
  const std::vector<json> plain =
      answers({{{"prompt", "The boats said nothing.\n\nWho sailed the boats?"}, {"context", {one, two}}}},
              {"--max-tokens", "8", "--window", "512"});
  EXPECT_EQ(made[0].at("tokens"), plain[0].at("tokens"));
  EXPECT_EQ(made[0].at("prompt_tokens"), plain[0].at("prompt_tokens"));
}

}  // namespace
}  // namespace cepe
