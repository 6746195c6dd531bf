#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "e2e/run_cepe.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Words = std::vector<std::string>;

json greedy_records() { return json::parse(read_file(golden("greedy.json"))); }

Words arguments_of(const json& record, const std::string& model) {
  Words words = {"generate", "--model", model, "--prompt", record["prompt"], "--max-tokens", "40"};
  if (record["raw"].get<bool>()) words.push_back("--raw");
  if (record.contains("system")) words.insert(words.end(), {"--system", record["system"]});
  if (record.contains("repetition_penalty")) {
    words.insert(words.end(), {"--repetition-penalty", std::to_string(record["repetition_penalty"].get<double>())});
  }
  return words;
}

Words with(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

TEST(GenerateCommand, WritesWhatTheReferenceWrites) {
  for (const json& record : greedy_records()) {
    const Words words = arguments_of(record, golden("plain"));
    const CommandResult text = run_cepe(words);
    ASSERT_EQ(text.status, 0) << text.err;
    EXPECT_EQ(text.out, record["text"].get<std::string>() + "\n");
    EXPECT_NE(text.err.find(std::to_string(record["tokens"].size()) + " generated tokens"), std::string::npos)
        << text.err;

    const CommandResult object = run_cepe(with(words, {"--json"}));
    ASSERT_EQ(object.status, 0) << object.err;
    const json made = json::parse(object.out);
    EXPECT_EQ(made["tokens"], record["tokens"]);
    EXPECT_EQ(made["text"], record["text"]);
    EXPECT_EQ(made["prompt_tokens"], record["prompt_tokens"].size());
    EXPECT_EQ(made["context_tokens"], 0);
    EXPECT_EQ(made["stop_reason"], record["ended"].get<bool>() ? "end_token" : "max_tokens");
  }
}

TEST(GenerateCommand, ThePromptMayBeAFile) {
  const TemporaryDirectory directory;
  const json record = greedy_records()[0];
  const std::string file = directory.write("prompt.txt", record["prompt"]);
  const CommandResult result =
      run_cepe({"generate", "--model", golden("plain"), "--prompt-file", file, "--raw", "--max-tokens", "40"});
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.out, record["text"].get<std::string>() + "\n");
}

// What editors add to a file is no part of the prompt: a byte order mark and the last line break.
TEST(GenerateCommand, APromptFileIsItsText) {
  const TemporaryDirectory directory;
  const auto tokens = [&](const std::string& content) {
    const std::string file = directory.write("prompt.txt", content);
    const CommandResult result = run_cepe(
        {"generate", "--model", golden("plain"), "--prompt-file", file, "--raw", "--max-tokens", "1", "--json"});
    EXPECT_EQ(result.status, 0) << result.err;
    return json::parse(result.out)["prompt_tokens"].get<int64_t>();
  };
  const int64_t plain = tokens("hello");
  for (const char* same : {"hello\n", "hello\r\n", "\xEF\xBB\xBFhello", "\xEF\xBB\xBFhello\n"}) {
    EXPECT_EQ(tokens(same), plain) << same;
  }
  EXPECT_GT(tokens("hello\n\n"), plain);  // one line break is the author's own
  EXPECT_GT(tokens("\nhello"), plain);
  const auto refused = [&](const std::string& content, const std::string& phrase) {
    const std::string file = directory.write("bad.txt", content);
    expect_refused({"generate", "--model", golden("plain"), "--prompt-file", file, "--raw"}, phrase);
  };
  refused("\n", "bad.txt: the prompt file is empty");
  refused("a\xFF", "bad.txt: expected UTF-8 text, found an invalid sequence at byte 1");
}

TEST(GenerateCommand, AnotherChatTemplateMayBeGiven) {
  const TemporaryDirectory directory;
  const std::string file = directory.write(
      "t.jinja", "\xEF\xBB\xBF{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}\n");
  const Words words = {"generate",     "--model", golden("plain"), "--prompt", "The road to the town",
                       "--max-tokens", "40"};
  const CommandResult result = run_cepe(with(words, {"--chat-template", file}));
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.out, run_cepe(with(words, {"--raw"})).out);
  expect_refused(with(words, {"--chat-template", file, "--raw"}), "--raw leaves the chat template out");
  expect_refused(with(words, {"--chat-template", "/absent.jinja"}), "/absent.jinja");
  expect_refused(with(words, {"--chat-template", directory.write("e.jinja", "")}),
                 "e.jinja: the chat template is empty");
}

// A template that is refused is told with its file and a way out, before the weights are read.
TEST(GenerateCommand, ARefusedTemplateIsToldBeforeTheWeightsAreRead) {
  const TemporaryDirectory directory;
  const fs::path model = directory.copy_of(golden("plain"));
  directory.write("plain/model.safetensors", "no weights");
  const Words words = {"generate", "--model", model.string(), "--prompt", "a"};
  write_file(model / "chat_template.jinja", "a\n{% include 'b' %}");
  expect_refused(words,
                 "chat_template.jinja: chat template, line 2: the statement \"include\" is not supported; --raw");
  const Words other = {"generate", "--model", golden("plain"), "--prompt", "a", "--chat-template"};
  expect_refused(with(other, {directory.write("r.jinja", "{{ raise_exception('only systems') }}")}),
                 "r.jinja: chat template, line 1: only systems; --raw does without the template");
}

TEST(GenerateCommand, StopStringsEndTheText) {
  const json record = greedy_records()[0];
  const std::string whole = record["text"], stop = " wa";
  ASSERT_NE(whole.find(stop), std::string::npos);
  const CommandResult result =
      run_cepe(with(arguments_of(record, golden("plain")), {"--stop", "absent", "--stop", stop}));
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.out, whole.substr(0, whole.find(stop)) + "\n");
}

TEST(GenerateCommand, TheSeedDecidesTheText) {
  const Words words = {"generate",     "--model", golden("plain"), "--prompt", "The rain",
                       "--max-tokens", "30",      "--top-p",       "0.9",      "--seed"};
  const CommandResult first = run_cepe(with(words, {"1"})), again = run_cepe(with(words, {"1"})),
                      other = run_cepe(with(words, {"2"}));
  ASSERT_EQ(first.status, 0) << first.err;
  EXPECT_EQ(first.out, again.out);
  EXPECT_NE(first.out, other.out);
}

TEST(GenerateCommand, ReadsContextFiles) {
  const TemporaryDirectory directory;
  std::string text;
  for (int i = 0; i < 200; ++i) text += "House " + std::to_string(i) + " stood on the hill.\n";
  const std::string first = directory.write("first.txt", text),
                    second = directory.write("second.txt", "The boats said nothing.");
  const Words words = {"generate", "--model", golden("published"), "--prompt", "Who goes there?", "--json"};
  const json without = json::parse(run_cepe(words).out),
             one = json::parse(run_cepe(with(words, {"--context", first})).out),
             two = json::parse(run_cepe(with(words, {"--context", first, second})).out);
  EXPECT_EQ(without["context_tokens"], 0);
  EXPECT_GT(one["context_tokens"].get<int>(), 2000);  // far beyond the window of 128
  EXPECT_GT(two["context_tokens"].get<int>(), one["context_tokens"].get<int>());
  EXPECT_NE(one["text"], without["text"]);

  // The trained parts on their base are the same model, and the base is found in CEPE_MODELS.
  Words trained = with(words, {"--context", first});
  trained[2] = golden("trained");
  const CommandResult result = run_cepe(trained, {.models = golden("")});
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(json::parse(result.out)["tokens"], one["tokens"]);
}

// int8 is a byte a number and a float32 scale a head; a note tells where the option does nothing.
TEST(GenerateCommand, KeepsKeysAndValuesInTheTypeOfChoice) {
  const TemporaryDirectory directory;
  const std::string file = directory.write("context.txt", "The boats said nothing.");
  const json config = json::parse(read_file(golden("published") + "/config.json"));
  const int64_t head_size = config["hidden_size"].get<int64_t>() / config["num_attention_heads"].get<int64_t>();
  const Words words = {"generate", "--model", golden("published"), "--prompt", "Who goes there?", "--context",
                       file,       "--json",  "--max-tokens",      "4",        "--device",        "cpu",
                       "--dtype",  "float32"};
  const auto bytes = [&](const char* type, const Words& more, const std::string& told) {
    const CommandResult made = run_cepe(with(words, with({"--kept-type", type}, more)));
    EXPECT_EQ(made.status, 0) << made.err;
    const std::string note = "cepe: --kept-type does nothing: ";
    const size_t at = made.err.find(note);
    EXPECT_EQ(at == std::string::npos ? "" : made.err.substr(at + note.size()).substr(0, told.size()), told);
    EXPECT_EQ(at != std::string::npos, !told.empty()) << made.err;
    return json::parse(made.out)["context_cache_bytes"].get<int64_t>();
  };
  const Words cached = {"--cross-attention", "cached"};
  const int64_t stored = bytes("stored", cached, "");
  EXPECT_GT(stored, 0);
  EXPECT_EQ(bytes("bfloat16", cached, ""), stored / 2);
  const int64_t eight_bits = stored / (4 * head_size) * (head_size + 4);
  EXPECT_EQ(bytes("int8", cached, ""), eight_bits);
  EXPECT_EQ(bytes("auto", cached, ""), stored) << "no kernel reads heads of 8";
  EXPECT_EQ(bytes("int8", {"--context-cache", "0"}, "--context-cache 0 keeps"), 0);
  EXPECT_EQ(bytes("stored", {"--context-cache", "0"}, ""), 0);
  EXPECT_EQ(bytes("auto", {"--context-cache", "0"}, ""), 0);
  bytes("int8", {"--cross-attention", "absorbed"}, "--cross-attention absorbed keeps");
  expect_refused(with(words, {"--kept-type", "int4"}), "--kept-type: expected auto, stored, bfloat16 or int8");
}

// A context of several blocks of 64 tokens.
TEST(GenerateCommand, ReadsAShareOfWhatIsKept) {
  const TemporaryDirectory directory;
  std::string text;
  for (int i = 0; i < 60; ++i) text += "House " + std::to_string(i) + " stood on the hill.\n";
  const std::string file = directory.write("context.txt", text);
  const Words words = {"generate", "--model", golden("published"), "--prompt", "Who stood?", "--context",
                       file,       "--json",  "--max-tokens",      "9",        "--device",   "cpu",
                       "--dtype",  "float32"};
  const auto made = [&](const char* form, const Words& more, bool idle) {
    const CommandResult result = run_cepe(with(words, with({"--cross-attention", form}, more)));
    EXPECT_EQ(result.status, 0) << result.err;
    const std::string note = std::string("--read-share does nothing: --cross-attention ") + form + " keeps no keys";
    EXPECT_EQ(result.err.find(note) != std::string::npos, idle) << result.err;
    json object = json::parse(result.out);
    const bool told = result.err.find(" % of them read for a token") != std::string::npos;
    EXPECT_EQ(told, object["read_share"] < 1) << result.err;
    return object;
  };
  const json all = made("cached", {}, false), most = made("cached", {"--read-share", "0.9999999999"}, false);
  EXPECT_EQ(all["read_share"], 1);
  EXPECT_EQ(most["read_share"], 1);
  EXPECT_EQ(most["tokens"], all["tokens"]);
  EXPECT_LT(made("cached", {"--read-share", "0.5", "--read-again", "4"}, false)["read_share"], 0.9);
  EXPECT_EQ(made("absorbed", {"--read-share", "0.5"}, true)["read_share"], 1);
  expect_refused(with(words, {"--read-share", "0"}), "--read-share: expected a share above 0 and at most 1, found 0");
  expect_refused(with(words, {"--read-again", "0"}), "--read-again: expected 1 or more tokens, found 0");
}

// The prompt with the chunk's text before it is what a user would write by hand.
TEST(GenerateCommand, ReadsChunksAgain) {
  const TemporaryDirectory directory;
  std::string text;
  for (int i = 0; i < 60; ++i) text += "House " + std::to_string(i) + " stood on the hill.\n";
  const std::string first = directory.write("first.txt", text),
                    second = directory.write("second.txt", "The boats said nothing.");
  const auto words = [&](const std::string& prompt) {
    return Words{"generate",     "--model", golden("published"), "--prompt", prompt, "--window", "512", "--json",
                 "--max-tokens", "12",      "--context",         first,      second};
  };
  const CommandResult expanded = run_cepe(with(words("Who sailed the boats?"), {"--expand", "1"}));
  ASSERT_EQ(expanded.status, 0) << expanded.err;
  const json made = json::parse(expanded.out),
             by_hand = json::parse(run_cepe(words("The boats said nothing.\n\nWho sailed the boats?")).out);
  EXPECT_EQ(made["tokens"], by_hand["tokens"]);
  EXPECT_EQ(made["prompt_tokens"], by_hand["prompt_tokens"]);
  EXPECT_EQ(made["context_tokens"], by_hand["context_tokens"]);
  ASSERT_EQ(made["expanded"].size(), 1u);
  EXPECT_EQ(made["expanded"][0]["source"], second);
  EXPECT_EQ(made["expanded"][0]["first_token"], 0);
  EXPECT_FALSE(by_hand.contains("expanded"));
  EXPECT_NE(expanded.err.find("read again as text: " + second + ", tokens 0 to "), std::string::npos) << expanded.err;

  for (const char* by : {"mass", "both"}) {
    const CommandResult result = run_cepe(with(words("Who sailed the boats?"), {"--expand", "2", "--expand-by", by}));
    ASSERT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(json::parse(result.out)["expanded"].size(), 2u);
  }
  const CommandResult none = run_cepe(with(words("elephants"), {"--expand", "1"}));
  EXPECT_EQ(json::parse(none.out)["expanded"].size(), 0u);
  EXPECT_NE(none.err.find("nothing is read again"), std::string::npos) << none.err;

  // The best chunk alone is read as if the other file were not there.
  const CommandResult top = run_cepe(with(words("Who sailed the boats?"), {"--top-chunks", "1"}));
  ASSERT_EQ(top.status, 0) << top.err;
  Words second_alone = words("Who sailed the boats?");
  std::erase(second_alone, first);
  const json of_top = json::parse(top.out), alone = json::parse(run_cepe(second_alone).out);
  EXPECT_EQ(of_top["tokens"], alone["tokens"]);
  EXPECT_EQ(of_top["read_tokens"], alone["context_tokens"]);
  EXPECT_EQ(of_top["context_tokens"], made["context_tokens"]);
  EXPECT_NE(top.err.find("of the context 1 of "), std::string::npos) << top.err;

  const auto refused = [&](const Words& more, const std::string& phrase) {
    const CommandResult result = run_cepe(with(words("Who?"), more));
    EXPECT_EQ(result.status, 1);
    EXPECT_NE(result.err.find(phrase), std::string::npos) << result.err;
  };
  refused({"--top-chunks", "-1"}, "--top-chunks: expected 0 or more chunks, found -1");
  refused({"--expand", "-1"}, "--expand: expected 0 or more chunks, found -1");
  refused({"--expand", "1", "--expand-by", "luck"}, "--expand-by: expected words, mass or both, found \"luck\"");
  const CommandResult without =
      run_cepe({"generate", "--model", golden("published"), "--prompt", "Who?", "--expand", "1"});
  EXPECT_EQ(without.status, 1);
  EXPECT_NE(without.err.find("--expand: there is no context"), std::string::npos) << without.err;
  const CommandResult top_without =
      run_cepe({"generate", "--model", golden("published"), "--prompt", "Who?", "--top-chunks", "1"});
  EXPECT_NE(top_without.err.find("--top-chunks: there is no context"), std::string::npos) << top_without.err;
}

TEST(GenerateCommand, SaysWhichChunksWereRead) {
  const TemporaryDirectory directory;
  std::string text;
  for (int i = 0; i < 60; ++i) text += "House " + std::to_string(i) + " stood on the hill.\n";
  const Words words = {"generate",
                       "--model",
                       golden("published"),
                       "--prompt",
                       "Who goes there?",
                       "--max-tokens",
                       "6",
                       "--context",
                       directory.write("first.txt", text),
                       directory.write("second.txt", "The boats said nothing.")};
  const CommandResult plain = run_cepe(with(words, {"--json"}));
  const CommandResult all = run_cepe(with(words, {"--json", "--attention-mass", "--attention-mass-top", "1000"}));
  ASSERT_EQ(all.status, 0) << all.err;
  const json made = json::parse(all.out), list = made["attention_mass"];
  EXPECT_EQ(made["tokens"], json::parse(plain.out)["tokens"]);
  EXPECT_FALSE(json::parse(plain.out).contains("attention_mass"));
  double sum = 0, before = 1;
  int64_t tokens = 0, of_second = 0;
  for (const json& chunk : list) {
    EXPECT_LE(chunk["mass"].get<double>(), before);
    before = chunk["mass"].get<double>();
    EXPECT_GT(before, 0);
    sum += before;
    tokens += chunk["tokens"].get<int64_t>();
    if (!chunk["source"].get<std::string>().ends_with("second.txt")) continue;
    ++of_second;
    EXPECT_EQ(chunk["first_token"], 0);
    EXPECT_EQ(chunk["text"], "The boats said nothing.");
  }
  EXPECT_NEAR(sum, 1, 1e-5);
  EXPECT_EQ(tokens, made["context_tokens"]);
  EXPECT_EQ(of_second, 1);

  const CommandResult table = run_cepe(with(words, {"--attention-mass", "--attention-mass-top", "1"}));
  ASSERT_EQ(table.status, 0) << table.err;
  EXPECT_NE(table.err.find("attention mass by chunk, the greatest of " + std::to_string(list.size())),
            std::string::npos)
      << table.err;
  EXPECT_NE(run_cepe({"generate", "--model", golden("published"), "--prompt", "Who?", "--attention-mass"}).status, 0);
}

TEST(GenerateCommand, SaysThatTheWindowIsFull) {
  const CommandResult result =
      run_cepe({"generate", "--model", golden("plain"), "--prompt", "The", "--raw", "--max-tokens", "5000"});
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_NE(result.err.find("window of 128 tokens"), std::string::npos) << result.err;
}

TEST(GenerateCommand, SaysThatTheModelHasNoChatTemplate) {
  const TemporaryDirectory directory;
  const fs::path model = directory.copy_of(golden("plain"));
  fs::remove(model / "tokenizer_config.json");
  const CommandResult result =
      run_cepe({"generate", "--model", model.string(), "--prompt", "The road to the town", "--max-tokens", "40"});
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.out, greedy_records()[0]["text"].get<std::string>() + "\n");
  EXPECT_NE(result.err.find("no chat template"), std::string::npos) << result.err;
}

// The small real model, where scripts/setup.sh has put it.
TEST(GenerateCommand, TheRealModelAnswers) {
  const char *models = std::getenv("CEPE_MODELS"), *home = std::getenv("HOME");
  const fs::path directory = models && *models ? fs::path(models) : fs::path(home ? home : "") / ".cache/cepe/models";
  const fs::path model = directory / "SmolLM2-135M-Instruct.Q4_1.gguf";
  ASSERT_TRUE(fs::exists(model)) << model << " is not there: scripts/setup.sh fetches it";
  const auto run = [&](const Words& more) {
    const Words words = {"generate", "--model",  model.string(), "--prompt", "What is the capital of Japan?",
                         "--json",   "--device", "cpu"};
    const CommandResult result = run_cepe(with(words, more));
    EXPECT_EQ(result.status, 0) << result.err;
    const json made = json::parse(result.out);
    EXPECT_EQ(made["text"], "The capital of Japan is Tokyo.");
    EXPECT_EQ(made["stop_reason"], "end_token");
    return result.err;
  };
  EXPECT_NE(run({}).find("cepe: weights: as the file, int4 in 210 matrices (exactly its values), int8 in 1 (a scale a "
                         "row); --weights stored for "),
            std::string::npos);
  EXPECT_EQ(run({"--weights", "stored"}).find("weights"), std::string::npos);
}

// What stage ask trained, asked as it trained: the encoder alone read the passages.
TEST(GenerateCommand, TheShippedModelAnswersFromItsContext) {
  const TemporaryDirectory directory;
  const std::string passages =
      directory.write("passages.jsonl",
                      "{\"text\": \"The harbour of Vellin freezes every January. Ships wait at the outer pier.\"}\n"
                      "{\"text\": \"The train to Brask leaves at seven in the morning and again at noon. Tickets are "
                      "sold by the baker.\"}\n");
  const Words words = {
      "generate", "--model", "models/smollm2-135m-cepe", "--context", passages, "--form", "question", "--dtype",
      "float32",  "--prompt"};
  const CommandResult result = run_cepe(with(words, {"When does the train to Brask leave?"}));
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.out, "seven in the morning and again at noon.\n");
  const auto kept_bytes = [&](const Words& more) {
    const Words cached = with({"Who?", "--json", "--device", "cpu", "--cross-attention", "cached"}, more);
    return json::parse(run_cepe(with(words, cached)).out)["context_cache_bytes"].get<int64_t>();
  };
  EXPECT_EQ(kept_bytes({}), kept_bytes({"--kept-type", "stored"}) / 256 * 68) << "8 bits and a scale for 64 float32";
  expect_refused(with(words, {"Who?", "--raw"}), "--form: --raw takes the prompt as it is");
  expect_refused(with(words, {"Who?", "--chat-template", "t.jinja"}), "--form question has none");
  expect_refused({"generate", "--model", golden("plain"), "--prompt", "a", "--form", "x"},
                 "--form: expected chat or question, found \"x\"");
}

// The tiny model's window is 128 positions; a prompt of some 300 tokens is read where the rotary scaling stretches it.
TEST(GenerateCommand, TheWindowIsWhatTheScalingGivesOrTheUserSets) {
  const TemporaryDirectory directory;
  const auto model = [&](const char* name, const char* key, const json& value) {
    const fs::path copy = directory.copy_of(golden("plain"));
    json config = json::parse(read_file(copy / "config.json"));
    config[key] = value;
    write_file(copy / "config.json", config.dump());
    fs::rename(copy, directory.path() / name);
    return (directory.path() / name).string();
  };
  std::string prompt;
  for (int i = 0; i < 300; ++i) prompt += "rain ";
  const auto words = [&](const std::string& path, const Words& more) {
    return with({"generate", "--model", path, "--raw", "--max-tokens", "2", "--json", "--prompt", prompt}, more);
  };
  const std::string plain = golden("plain");
  expect_refused(words(plain, {}), "window of 128");
  expect_refused(words(model("short", "max_position_embeddings", 64), {}), "window of 64");
  const json yarn = {{"rope_type", "yarn"}, {"factor", 16.0}, {"original_max_position_embeddings", 128}};
  for (const json& scaling : {yarn, json{{"type", "dynamic"}, {"factor", 16.0}}}) {
    const std::string path = model(scaling.dump().size() > 50 ? "yarn" : "dynamic", "rope_scaling", scaling);
    const CommandResult read = run_cepe(words(path, {}));
    ASSERT_EQ(read.status, 0) << read.err;
    EXPECT_EQ(json::parse(read.out)["tokens"].size(), 2u);
    expect_refused(words(path, {"--window", "200"}), "window of 200");
  }
  const CommandResult wider = run_cepe(words(plain, {"--window", "4000"}));
  ASSERT_EQ(wider.status, 0) << wider.err;
  expect_refused(words(plain, {"--window", "-1"}), "--window");
  const std::string slides = model("slides", "model_type", "mistral");
  json config = json::parse(read_file(fs::path(slides) / "config.json"));
  config["sliding_window"] = 100;
  write_file(fs::path(slides) / "config.json", config.dump());
  expect_refused(words(slides, {}), "window of 100");
  expect_refused(words(slides, {"--window", "4000"}), "slides over 100");
}

}  // namespace
}  // namespace cepe
