// What surrounds a command: names that are no UTF-8, full devices, closed streams, places the system refuses, notes.
#include <gtest/gtest.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "e2e/run_cepe.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Words = std::vector<std::string>;

constexpr const char* kReplacement = "\uFFFD";

std::string town(int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += "The road to the town and back. ";
  return out;
}

Words perplexity(const std::string& model, const std::string& text, const Words& more) {
  Words words = {"perplexity", "--device",         "cpu", "--model",         model, "--text",
                 text,         "--decoder-tokens", "32",  "--scored-tokens", "8",   "--context-tokens",
                 "0",          "--windows",        "2"};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

size_t count_of(const std::string& text, const std::string& phrase) {
  size_t count = 0;
  for (size_t at = text.find(phrase); at != std::string::npos; at = text.find(phrase, at + 1)) ++count;
  return count;
}

TEST(Names, ThatAreNotUtf8EndNoCommand) {
  const TemporaryDirectory directory;
  const std::string odd = (directory.path() / "caf\xe9").string(), out = (directory.path() / "r.json").string();
  fs::copy(golden("published"), odd);
  const std::string text = directory.write("t\xe9xt.txt", town(40));

  const CommandResult info = run_cepe({"info", odd, "--json"});
  ASSERT_EQ(info.status, 0) << info.err;
  EXPECT_NE(json::parse(info.out)["path"].get<std::string>().find(kReplacement), std::string::npos);
  EXPECT_NE(run_cepe({"info", odd}).out.find("caf\\xe9"), std::string::npos);

  const CommandResult mass = run_cepe({"generate", "--model", odd, "--context", text, "--raw", "--prompt", "hi",
                                       "--max-tokens", "2", "--attention-mass", "--json"});
  ASSERT_EQ(mass.status, 0) << mass.err;
  EXPECT_NE(json::parse(mass.out)["attention_mass"][0]["source"].get<std::string>().find(kReplacement),
            std::string::npos);

  const std::string plot = (directory.path() / "p.svg").string();
  const CommandResult scored = run_cepe(perplexity(odd, text, {"--json", out, "--plot", plot}));
  ASSERT_EQ(scored.status, 0) << scored.err;
  EXPECT_NE(json::parse(read_file(out))["model"].get<std::string>().find(kReplacement), std::string::npos);
  EXPECT_NE(read_file(plot).find("caf\\xe9"), std::string::npos);
}

TEST(Names, FromFilesCannotSteerATerminal) {
  const TemporaryDirectory directory;
  const std::string evil = "a\x1b[2Jb";
  expect_refused({"info", "/absent/" + evil}, "/absent/a\\x1b[2Jb");
  const std::string text = directory.write("t.jsonl", json({{"text", town(40)}, {"domain", evil}}).dump() + "\n");
  const CommandResult scored = run_cepe(perplexity(golden("plain"), text, {}));
  EXPECT_EQ(scored.status, 0) << scored.err;
  EXPECT_NE(scored.out.find("a\\x1b[2Jb"), std::string::npos);
  EXPECT_EQ((scored.out + scored.err).find('\x1b'), std::string::npos);
}

TEST(Output, AFullDeviceIsAnErrorOfEveryCommand) {
  const TemporaryDirectory directory;
  const std::string text = directory.write("h.txt", "hello"), out = (directory.path() / "o").string();
  const Words commands[] = {{"--help"},
                            {"--version"},
                            {"data", "--help"},
                            {"verify", CEPE_TEST_DATA "/cepe-mha"},
                            {"data", "--model", golden("plain") + "/tokenizer.json", "--out", out, text},
                            {"export", "--model", golden("published"), "--out", out + "1"},
                            {"convert", "--model", golden("published"), "--out", out + "2", "--weights", "bf16"},
                            {"bench", "--model", golden("plain"), "--tests", "tg2", "--window-tokens", "8",
                             "--repetitions", "1", "--warmup", "0"},
                            perplexity(golden("plain"), directory.write("t.txt", town(40)), {})};
  for (const Words& words : commands) {
    const CommandResult result = run_cepe(words, {.stdout_path = "/dev/full"});
    EXPECT_EQ(result.status, 1) << words[0];
    EXPECT_NE(result.err.find("standard output"), std::string::npos) << words[0] << ": " << result.err;
  }
}

TEST(Output, ClosedStreams) {
  const Words words = {"generate", "--model", golden("plain"), "--raw", "--prompt", "hi", "--max-tokens", "2"};
  EXPECT_EQ(run_cepe(words, {.shell = "exec >&-"}).status, 1);
  EXPECT_EQ(run_cepe(words, {.shell = "exec 2>&-"}).status, 0);
  EXPECT_EQ(run_cepe(words, {.shell = "exec <&-"}).status, 0);
  // No message goes into a file that took the place of a closed stream.
  const TemporaryDirectory directory;
  const std::string out = (directory.path() / "o").string();
  const CommandResult exported =
      run_cepe({"export", "--model", golden("plain"), "--out", out}, {.shell = "exec >&- 2>&-"});
  EXPECT_EQ(exported.status, 1);
  EXPECT_EQ(run_cepe({"info", out}).status, 0);
}

TEST(Output, OneFileThatFailsDoesNotKeepTheOthersBack) {
  const TemporaryDirectory directory;
  const std::string text = directory.write("t.txt", town(40)), plot = (directory.path() / "p.svg").string();
  const CommandResult result = run_cepe(perplexity(golden("plain"), text, {"--json", "/dev/full", "--plot", plot}));
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.out.find("perplexity"), std::string::npos);
  EXPECT_TRUE(read_file(plot).starts_with("<svg"));
}

TEST(Places, ThatTheSystemRefuses) {
  const TemporaryDirectory directory;
  fs::create_symlink(directory.path() / "loop", directory.path() / "loop");
  const std::string text = directory.write("t.txt", town(4)), run = (directory.path() / "run").string();
  const std::string config =
      directory.write("c.toml", "[model]\nbase = \"" + golden("plain") + "\"\n[data]\ntrain = [\"" + run + "\"]\n");
  const std::string plain = golden("plain"), tokens = plain + "/tokenizer.json";
  const std::string loop = (directory.path() / "loop").string();
  for (const std::string& path : {loop, std::string(300, 'x'), std::string(6000, 'd'), text + "/x"}) {
    const std::string name = path.substr(0, 100);
    expect_refused({"info", path}, name);
    expect_refused({"generate", "--model", golden("published"), "--raw", "--prompt", "x", "--context", path}, name);
    expect_refused(perplexity(plain, text, {"--json", path}), name);
    // A place that may not be searched does not end the search for a base.
    expect_refused({"info", golden("trained")}, "was not found (looked at", {.models = path});
  }
  expect_refused({"info", golden("trained"), "--base", loop}, loop);
  expect_refused({"generate", "--model", plain, "--raw", "--prompt-file", loop}, loop);
  expect_refused({"data", "--model", tokens, "--out", run, loop + ".txt"}, loop);
  expect_refused(perplexity(plain, loop, {}), loop);
  EXPECT_EQ(run_cepe({"data", "--model", tokens, "--out", loop, text}).status, 1);
  expect_refused({"export", "--model", plain, "--out", loop}, loop);
  expect_refused({"convert", "--model", loop, "--out", run, "--weights", "f32"}, loop);
  expect_refused({"verify", loop}, loop);
  expect_refused({"train", loop, "--run", run}, loop);
  expect_refused({"train", config, "--run", run}, run);  // data.train does not exist
  EXPECT_FALSE(fs::exists(run));                         // nothing is made before the inputs were checked
}

TEST(Places, LittleMemoryAndSmallFiles) {
  const CommandResult memory = run_cepe({"info", golden("plain")}, {.shell = "ulimit -c 0; ulimit -v 400000"});
  EXPECT_LT(memory.status, 128) << "ended by a signal";
  EXPECT_FALSE(memory.err.empty());
  const TemporaryDirectory directory;
  const std::string out = (directory.path() / "o").string();
  const CommandResult small =
      run_cepe({"export", "--model", golden("published"), "--out", out}, {.shell = "ulimit -c 0; ulimit -f 8"});
  EXPECT_EQ(small.status, 1);
  EXPECT_NE(small.err.find("File too large"), std::string::npos) << small.err;
  for (const auto& entry : fs::recursive_directory_iterator(directory.path()))
    EXPECT_NE(entry.path().extension(), ".tmp") << entry.path();
}

TEST(Models, AreFoundByTheirNamesInEveryCommand) {
  const TemporaryDirectory directory;
  const CommandSettings settings{.models = directory.path().string()};
  fs::copy(golden("plain"), directory.path() / "a-decoder");
  fs::copy(golden("published"), directory.path() / "a-reader");
  const std::string text = directory.write("t.txt", town(40)), out = (directory.path() / "o").string();
  const Words commands[] = {{"info", "a-decoder"},
                            {"info", golden("trained"), "--base", "a-decoder"},
                            {"generate", "--model", "a-decoder", "--raw", "--prompt", "hi", "--max-tokens", "2"},
                            perplexity("a-decoder", text, {}),
                            {"bench", "--model", "a-decoder", "--tests", "tg2", "--window-tokens", "8", "--repetitions",
                             "1", "--warmup", "0"},
                            {"data", "--model", "a-decoder", "--out", out, text},
                            {"export", "--model", "a-decoder", "--out", out + "1"},
                            {"convert", "--model", "a-reader", "--out", out + "2", "--weights", "bf16"}};
  for (const Words& words : commands) {
    const CommandResult result = run_cepe(words, settings);
    EXPECT_EQ(result.status, 0) << words[0] << ": " << result.err;
  }
  expect_refused({"info", "absent-decoder"}, directory.path().string() + "/absent-decoder", settings);
}

TEST(Models, WithoutABaseRefuseOne) {
  const std::string plain = golden("plain");
  expect_refused({"info", plain, "--base", plain}, "no directory of trained parts");
  expect_refused({"generate", "--model", golden("published"), "--base", plain, "--prompt", "x"},
                 "no directory of trained parts");
  expect_refused({"export", "--model", plain, "--base", plain, "--out", "/absent/o"}, "no directory of trained parts");
  const TemporaryDirectory directory;
  expect_refused({"data", "--model", plain + "/tokenizer.json", "--base", plain, "--out", "/absent/o",
                  directory.write("t.txt", "text")},
                 "is a tokenizer and has no base");
}

TEST(Models, NotesAreToldOnceByEveryCommand) {
  const TemporaryDirectory directory;
  const fs::path model = directory.copy_of(golden("published"));
  json settings = json::parse(read_file(model / "tokenizer_config.json"));
  settings["chat_template"] = json::array({{{"name", "rag"}, {"template", "x"}}});
  fs::permissions(model / "tokenizer_config.json", fs::perms::owner_write, fs::perm_options::add);
  write_file(model / "tokenizer_config.json", settings.dump());
  const std::string note = "none is called default", name = model.string();
  const std::string text = directory.write("t.txt", town(40)), out = (directory.path() / "o").string();
  const Words commands[] = {
      {"generate", "--model", name, "--raw", "--prompt", "hi", "--max-tokens", "2"},
      perplexity(name, text, {}),
      {"bench", "--model", name, "--tests", "tg2", "--window-tokens", "8", "--repetitions", "1", "--warmup", "0"},
      {"data", "--model", name, "--out", out, text},
      {"export", "--model", name, "--out", out + "1"},
      {"convert", "--model", name, "--out", out + "2", "--weights", "bf16"}};
  for (const Words& words : commands) {
    const CommandResult result = run_cepe(words);
    EXPECT_EQ(result.status, 0) << words[0] << ": " << result.err;
    EXPECT_EQ(count_of(result.err, note), 1u) << words[0] << ": " << result.err;
    EXPECT_EQ(count_of(result.out, note), 0u) << words[0];
  }
  const CommandResult info = run_cepe({"info", name});
  EXPECT_EQ(count_of(info.out, note), 1u) << "the description has the note as well";
  EXPECT_EQ(count_of(info.err, note), 1u);
}

}  // namespace
}  // namespace cepe
