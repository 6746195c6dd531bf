// Arguments as people type them: strings stay as they are, numbers are what they look like, mistyped words are named.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "e2e/run_cepe.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Words = std::vector<std::string>;

Words generate(const Words& more, const std::string& model = golden("plain")) {
  Words words = {"generate", "--model", model, "--raw", "--device", "cpu"};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

Words written(const Words& more) {
  Words words = generate({"--prompt", "The road to the town", "--max-tokens", "30", "--json"});
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

json result_of(const Words& words, const CommandSettings& settings = {}) {
  const CommandResult result = run_cepe(words, settings);
  EXPECT_EQ(result.status, 0) << result.err;
  return result.status == 0 ? json::parse(result.out) : json();
}

std::string repeated(const std::string& text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

TEST(CommandLine, StopStringsStayAsTheyAreTyped) {
  const json plain = result_of(written({}));
  const std::string text = plain["text"];
  ASSERT_NE(text.find('C'), std::string::npos);
  // None of these stands in the text; taken apart some would end it.
  Words typed;
  for (const char* stop : {"[C]", "[at,zzz]", "[]", "{}", "C,zzz", "%%", "--stop"}) {
    ASSERT_EQ(text.find(stop), std::string::npos);
    typed.insert(typed.end(), {"--stop", stop, std::string("--stop=") + stop});
  }
  EXPECT_EQ(result_of(written(typed))["text"], plain["text"]);
  EXPECT_EQ(result_of(written({"--stop", "{}"}))["text"], plain["text"]);  // a list of one
  EXPECT_EQ(result_of(written({"--stop", "[]", "--stop", "C"}))["text"], text.substr(0, text.find('C')));
  expect_refused(written({"--stop", "x", "y"}), "unexpected argument \"y\"");
}

TEST(CommandLine, NamesOfFilesStayAsTheyAreTyped) {
  const TemporaryDirectory directory;
  const std::string shell = "cd '" + directory.path().string() + "'";
  for (const char* name : {"[a]", "{}", "[a,b]", "data"}) {
    directory.write(name, "some text");
    const Words words =
        generate({"--prompt", "The", "--max-tokens", "2", "--json", "--context", name, name}, golden("published"));
    EXPECT_GT(result_of(words, {.shell = shell})["context_tokens"], 0) << name;
  }
  fs::copy(golden("plain"), directory.path() / "export");
  EXPECT_EQ(run_cepe({"info", "export"}, {.shell = shell}).status, 0);  // a directory called as a command is
}

TEST(CommandLine, NothingAfterTheEqualsSign) {
  const auto chat = [](const Words& more) {
    Words words = {"generate", "--model", golden("plain"), "--device", "cpu",
                   "--prompt", "hi",      "--max-tokens",  "2",        "--json"};
    words.insert(words.end(), more.begin(), more.end());
    return result_of(words)["tokens"];
  };
  EXPECT_EQ(chat({"--system="}), chat({"--system", ""}));
  EXPECT_NE(chat({"--system="}), chat({}));
  expect_refused(generate({"--prompt=", "--max-tokens", "2"}), "--prompt: the prompt is empty");
  expect_refused(generate({"--prompt", "hi", "--base=", "--max-tokens", "2"}), "--base: the value is empty");
  expect_refused(generate({"--prompt", "hi", "--json="}), "--json: the value is empty");
  expect_refused(generate({"--prompt", "hi", "--raw="}), "--raw: takes no value");
  expect_refused({"info", "--model="}, "--model: the value is empty");
  expect_refused(generate({"--prompt"}), "--prompt needs a value");
  expect_refused(generate({"--prompt", "--max-tokens", "2"}), "--prompt has the value \"--max-tokens\"");
}

TEST(CommandLine, ListsHaveNoEmptyItems) {
  for (const char* list : {",", "0,", ",0", "0,,32", ""}) {
    expect_refused({"perplexity", "--model", golden("plain"), "--text", "x.txt", "--context-tokens", list},
                   "--context-tokens");
  }
  expect_refused({"perplexity", "--model", golden("plain"), "--text", "x.txt", "--control", ","}, "--control");
  expect_refused({"bench", "--model", golden("plain"), "--batch", "1,x"}, "--batch: expected a whole number");
}

TEST(CommandLine, NumbersAreWhatTheyLookLike) {
  const auto tokens = [](const char* count) {
    return result_of(
        generate({"--prompt", "The road to the town", "--json", "--max-tokens", count}))["generated_tokens"];
  };
  EXPECT_EQ(tokens("010"), 10);  // not octal
  EXPECT_EQ(tokens("0x5"), 5);
  EXPECT_EQ(tokens("+7"), 7);
  const auto refused = [](const std::string& option, const std::string& value) {
    expect_refused(generate({"--prompt", "a", option, value}), option.substr(2, 4));
  };
  for (const char* seed : {"-1", "abc", "1.5", "", " 5", "99999999999999999999999", "18446744073709551616"})
    refused("--seed", seed);
  for (const char* count : {"", "1e3", "5x", "9223372036854775808", "99999999999999999999999"})
    refused("--max-tokens", count);
  for (const char* number : {"nan", "inf", "-inf", "", "1,5", "1e999"}) refused("--temperature", number);
  for (const char* number : {"1e-40", "1e39", "0", "-1", "nan"}) {
    expect_refused(generate({"--prompt", "a", "--repetition-penalty", number}), "repetition");
  }
  for (const char* number : {"1e-30", "1e30"})
    EXPECT_EQ(run_cepe(generate({"--prompt", "a", "--max-tokens", "2", "--repetition-penalty", number})).status, 0);
  expect_refused({"verify", golden("plain"), "--tolerance", "nan"}, "--tolerance");
}

TEST(CommandLine, MistypedWordsAreNamedWithTheNearest) {
  const std::string plain = golden("plain");
  for (const auto& [word, meant] : std::vector<std::pair<std::string, std::string>>{{"generat", "generate"},
                                                                                    {"Generate", "generate"},
                                                                                    {"genrate", "generate"},
                                                                                    {"help", "--help"},
                                                                                    {"version", "--version"},
                                                                                    {"--vresion", "--version"}}) {
    expect_refused({word, "--model", plain}, word);
    expect_refused({word, "--model", plain}, "did you mean " + meant + "?");
  }
  expect_refused({"compose"}, "the commands are info, generate");
  expect_refused({}, "the commands are info, generate");
  expect_refused({"generate", "--modle", "x"}, "unknown option --modle; did you mean --model?");
  expect_refused(generate({"--prompt", "x", "--max_tokens", "5"}), "--max_tokens; did you mean --max-tokens?");
  expect_refused({"train", "x.toml", "--rnu", "y"}, "--rnu; did you mean --run?");
  expect_refused(generate({"--prompt", "x", "--prompt", "y"}), "--prompt");
  expect_refused({"generate"}, "--model is required");
  expect_refused({"info"}, "a model is needed");
  const TemporaryDirectory directory;
  const std::string config = directory.write("c.toml", "[train]\nsteps = 1\n");
  expect_refused({"train", config, "--run", (directory.path() / "run").string(), "--train.setps=5"},
                 "unknown key train.setps; did you mean train.steps?");
}

TEST(CommandLine, JsonMeansTheSameEverywhere) {
  const TemporaryDirectory directory;
  const std::string plain = golden("plain"), file = (directory.path() / "r.json").string();
  const std::string text = directory.write("t.txt", repeated("The road to the town and back. ", 40));
  const std::vector<Words> commands = {
      {"info", "--device", "cpu", "--model", plain},
      generate({"--prompt", "The road to the town", "--max-tokens", "4"}),
      {"perplexity", "--device", "cpu", "--model", plain, "--text", text, "--decoder-tokens", "32", "--scored-tokens",
       "8", "--context-tokens", "0", "--windows", "1"},
      {"bench", "--device", "cpu", "--model", plain, "--tests", "tg2", "--window-tokens", "8", "--repetitions", "1",
       "--warmup", "0"}};
  for (const Words& command : commands) {
    SCOPED_TRACE(command[0]);
    const auto with = [&](const Words& more, const CommandSettings& settings = {}) {
      Words words = command;
      words.insert(words.end(), more.begin(), more.end());
      return run_cepe(words, settings);
    };
    const CommandResult shown = with({});
    const CommandResult beside = with({"--json", file});
    EXPECT_EQ(beside.status, 0) << beside.err;
    EXPECT_EQ(std::count(beside.out.begin(), beside.out.end(), '\n'),
              std::count(shown.out.begin(), shown.out.end(), '\n'));
    const json record = json::parse(read_file(file));
    const json keys = [](const json& of) {
      json list;
      for (const auto& [key, unused] : of.items()) list.push_back(key);
      return list;
    }(record);
    for (const Words& more : {Words{"--json"}, Words{"--json", "/dev/stdout"}}) {
      const CommandResult alone = with(more);
      EXPECT_EQ(alone.status, 0) << alone.err;
      const json other = json::parse(alone.out);  // nothing else on standard output
      for (const json& key : keys) EXPECT_TRUE(other.contains(key.get<std::string>())) << key;
    }
    EXPECT_FALSE(fs::exists("-"));
    // The result stands on the screen, and the command ends with an error.
    const CommandResult full = with({"--json", "/dev/full"});
    EXPECT_EQ(full.status, 1);
    EXPECT_EQ(std::count(full.out.begin(), full.out.end(), '\n'), std::count(shown.out.begin(), shown.out.end(), '\n'));
    EXPECT_NE(full.err.find("/dev/full: cannot write the file: No space left on device"), std::string::npos)
        << full.err;
    // What can be known before the work is told before it.
    const CommandResult nowhere = with({"--json", "/absent/r.json"});
    EXPECT_EQ(nowhere.status, 1);
    EXPECT_EQ(nowhere.out, "");
  }
  for (const Words& words :
       {Words{"info", "--json", plain}, Words{"info", plain, "--json"},
        Words{"info", "--json", plain, "--device", "cpu"}, Words{"info", "--model", plain, "--json"}}) {
    EXPECT_EQ(result_of(words)["path"], plain);
  }
}

TEST(CommandLine, HelpBeginsWithCapitalsAndListsEveryOptionOnce) {
  for (const char* command :
       {"info", "generate", "perplexity", "verify", "data", "train", "convert", "export", "bench", "report"}) {
    const CommandResult help = run_cepe({command, "--help"});
    EXPECT_EQ(help.status, 0);
    EXPECT_TRUE(std::isupper(static_cast<unsigned char>(help.out[0]))) << help.out;
    size_t models = 0;
    for (size_t at = 0; (at = help.out.find("\n  --model", at)) != std::string::npos; ++at) ++models;
    EXPECT_LE(models, 1u) << help.out;
    for (size_t begin = 0; begin < help.out.size();) {
      const size_t end = help.out.find('\n', begin);
      EXPECT_LE(end - begin, 100u) << help.out.substr(begin, end - begin);
      begin = end + 1;
    }
  }
}

}  // namespace
}  // namespace cepe
