#include "generate/records/prompt_records.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/file.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

PromptRecord parse(const std::string& line, const PromptDefaults& defaults = {}) {
  return parse_prompt_record(line, "p.jsonl:3", defaults);
}

TEST(PromptRecord, SaysWhatItSays) {
  const PromptRecord record = parse(
      R"({"id": {"a": [1]}, "prompt": "Who?", "context": ["a.txt", "b.txt"], "context_text": "c", "system": "",
          "max_tokens": 7, "temperature": 0.5, "top_k": 4, "top_p": 0.9, "min_p": 0.1, "repetition_penalty": 1.2,
          "seed": 18446744073709551615, "stop": ["x", "y"]})");
  EXPECT_EQ(record.id, json::parse(R"({"a": [1]})"));
  EXPECT_EQ(record.where, "p.jsonl:3");
  EXPECT_EQ(record.prompt, "Who?");
  EXPECT_EQ(record.context, (std::vector<std::string>{"a.txt", "b.txt"}));
  EXPECT_EQ(record.context_text, std::vector<std::string>{"c"});
  EXPECT_EQ(record.system, std::optional<std::string>(""));
  EXPECT_EQ(record.max_tokens, 7);
  EXPECT_EQ(record.sampling.temperature, 0.5);
  EXPECT_EQ(record.sampling.top_k, 4);
  EXPECT_EQ(record.sampling.top_p, 0.9);
  EXPECT_EQ(record.sampling.min_p, 0.1);
  EXPECT_EQ(record.sampling.repetition_penalty, 1.2);
  EXPECT_EQ(record.sampling.seed, 18446744073709551615u);
  EXPECT_EQ(record.stop, (std::vector<std::string>{"x", "y"}));
}

TEST(PromptRecord, DefaultsHoldForTheRest) {
  PromptDefaults defaults{.system = "Be brief.", .context = {"all.txt"}, .max_tokens = 9, .stop = {"z"}};
  defaults.sampling.seed = 5;
  const PromptRecord plain = parse(R"({"prompt": "Who?", "stop": null, "id": null, "max_tokens": null})", defaults);
  EXPECT_TRUE(plain.id.is_null());
  EXPECT_EQ(plain.system, defaults.system);
  EXPECT_EQ(plain.context, defaults.context);
  EXPECT_EQ(plain.max_tokens, 9);
  EXPECT_EQ(plain.sampling.seed, 5u);
  EXPECT_EQ(plain.sampling.temperature, 0);
  EXPECT_EQ(plain.stop, defaults.stop);
  EXPECT_TRUE(parse(R"({"prompt": "Who?", "context": []})", defaults).context.empty());
  EXPECT_TRUE(parse(R"({"prompt": "Who?", "context_text": "here"})", defaults).context.empty());
  EXPECT_TRUE(parse(R"({"prompt": "Who?", "stop": []})", defaults).stop.empty());
}

// As on the command line: a filter asks for draws, unless somebody gave a temperature.
TEST(PromptRecord, AFilterAsksForDraws) {
  PromptDefaults given{.temperature_given = true};
  given.sampling.temperature = 0.3;
  for (const char* filter : {R"("top_k": 5)", R"("top_p": 0.5)", R"("min_p": 0.2)"}) {
    const std::string line = std::string(R"({"prompt": "Who?", )") + filter;
    EXPECT_EQ(parse(line + "}").sampling.temperature, 1);
    EXPECT_EQ(parse(line + "}", given).sampling.temperature, 0.3);
    EXPECT_EQ(parse(line + R"(, "temperature": 0})").sampling.temperature, 0);
  }
  EXPECT_EQ(parse(R"({"prompt": "Who?"})", given).sampling.temperature, 0.3);
}

void refused(const std::string& line, const std::string& phrase) {
  try {
    parse(line);
    ADD_FAILURE() << "taken: " << line;
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("p.jsonl:3: " + phrase), std::string::npos) << error.what();
    EXPECT_LT(std::string(error.what()).size(), 300u);
  }
}

TEST(PromptRecord, OtherLinesAreRefused) {
  refused("{", "not valid JSON");
  refused("{\"prompt\": \"a\xff\"}", "not valid JSON in UTF-8");
  refused("{\"prompt\": 1e999}", "holds a number beyond");
  refused("[1]", "expected an object with \"prompt\", found array");
  const std::string open(200'000, '['), close(200'000, ']');
  refused("{\"prompt\": \"a\", \"id\": " + open + close + "}", "values are nested more than 100 deep");
  refused("{}", "expected a \"prompt\"");
  refused(R"({"prompt": ""})", "expected a \"prompt\"");
  refused(R"({"prompt": ["a"]})", "prompt: expected a text, found [\"a\"]");
  refused(R"({"prompt": "a", "max_token": 3})", "unknown key \"max_token\"; did you mean max_tokens?");
  refused(R"({"prompt": "a", "max_tokens": 0})", "max_tokens: expected 1 or more");
  refused(R"({"prompt": "a", "max_tokens": -1})", "max_tokens: expected a whole number, 0 or more, found -1");
  refused(R"({"prompt": "a", "max_tokens": 1.5})", "max_tokens: expected a whole number");
  refused(R"({"prompt": "a", "max_tokens": 18446744073709551615})", "max_tokens: expected a smaller number");
  refused(R"({"prompt": "a", "temperature": "0"})", "temperature: expected a number, found \"0\"");
  refused(R"({"prompt": "a", "temperature": -1})", "temperature: expected 0 (greedy) or more");
  refused(R"({"prompt": "a", "top_p": 0})", "top-p: expected");
  refused(R"({"prompt": "a", "context": [1]})", "context: expected a text or a list of texts, found [1]");
  refused(R"({"prompt": "a", "stop": ""})", "stop string: an empty one");
  const std::string long_text(5000, 'x');
  refused(json({{"prompt", "a"}, {"seed", long_text}}).dump(),
          "seed: expected a whole number, 0 or more, found string");
}

TEST(PromptRecords, OfAFile) {
  const fs::path directory = fs::path(testing::TempDir()) / "cepe_prompt_records_test";
  fs::create_directories(directory);
  const auto write = [&](const std::string& name, const std::string& content) {
    write_file(directory / name, content);
    return directory / name;
  };
  const fs::path here = write("here.txt", "text");
  const std::string one = json({{"prompt", "One?"}, {"context", here.string()}}).dump();
  const std::vector<PromptRecord> records =
      read_prompt_records(write("a.jsonl", "\xEF\xBB\xBF" + one + "\r\n\n{\"prompt\": \"Two?\"}"), {});
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].context, std::vector<std::string>{here.string()});
  EXPECT_TRUE(records[1].where.ends_with("a.jsonl:3"));
  const auto refused = [](const fs::path& path, const std::string& phrase) {
    try {
      read_prompt_records(path, {});
      ADD_FAILURE() << "taken: " << path;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(phrase), std::string::npos) << error.what();
    }
  };
  refused(write("empty.jsonl", "\n"), "empty.jsonl: holds no prompts");
  refused(write("b.jsonl", one + "\n{\"prompt\": \"a\", \"context\": \"/absent.txt\"}\n"),
          "b.jsonl:2: context: there is no file /absent.txt");
  refused(write("p.txt", one), "named .jsonl");
  refused(directory / "absent.jsonl", "absent.jsonl");
  fs::remove_all(directory);
}

}  // namespace
}  // namespace cepe
