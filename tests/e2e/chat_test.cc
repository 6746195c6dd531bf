// cepe chat through a pipe, as scripts drive it, and on a terminal.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "e2e/run_cepe.h"
#include "e2e/terminal.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Words = std::vector<std::string>;

constexpr const char* kTokens = "12";  // of an answer

Words with(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

std::string turn(const std::string& role, const std::string& text) {
  return "<|im_start|>" + role + "\n" + text + "<|im_end|>\n";
}

class ChatCommand : public testing::Test {
 protected:
  // What is said, line by line.
  CommandResult chat(const std::string& model, const std::string& said, const Words& more = {}) const {
    const std::string file = directory_.write("said.txt", said);
    return run_cepe(with({"chat", "--model", golden(model), "--max-tokens", kTokens}, more),
                    {.shell = "exec < '" + file + "'"});
  }
  // The answer to a conversation as cepe generate writes it, from the conversation's text as it is.
  std::string answer_to(const std::string& model, const std::string& text, const Words& more = {}) const {
    const std::string file = directory_.write("prompt.txt", text + "<|im_start|>assistant\n\n");  // one is dropped
    const CommandResult result = run_cepe(
        with({"generate", "--model", golden(model), "--raw", "--prompt-file", file, "--max-tokens", kTokens}, more));
    EXPECT_EQ(result.status, 0) << result.err;
    return result.out.substr(0, result.out.size() - 1);
  }
  std::string document(const std::string& name, int houses) const {
    std::string text;
    for (int i = 0; i < houses; ++i) text += name + ": house " + std::to_string(i) + " stood on the hill.\n";
    return directory_.write(name, text);
  }
  const TemporaryDirectory directory_;
};

bool has(const std::string& text, const std::string& phrase) { return text.find(phrase) != std::string::npos; }

TEST_F(ChatCommand, AnswersWithWhatWasSaidBefore) {
  const std::string first_turn = turn("system", "Be brief.") + turn("user", "Who goes there?");
  const std::string first = answer_to("plain", first_turn);
  const std::string second_turn = first_turn + turn("assistant", first) + turn("user", "The rain?\nThe road?");
  const std::string second = answer_to("plain", second_turn);
  ASSERT_NE(first, second);
  // Two lines by a backslash, and by quotes.
  for (const char* question :
       {"The rain?\\\nThe road?\n", "\"\"\"\nThe rain?\nThe road?\n\"\"\"\n", "\"\"\"The rain?\nThe road?\"\"\""}) {
    const CommandResult result =
        chat("plain", std::string("  Who goes there? \n\n") + question, {"--system", "Be brief."});
    ASSERT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(result.out, first + "\n" + second + "\n") << result.err;
    EXPECT_FALSE(has(result.err, "> "));  // no prompt in a pipe
  }
}

// What stage ask trained, asked as it trained, turn after turn.
TEST_F(ChatCommand, TheShippedModelAnswersQuestions) {
  const std::string text = directory_.write(
      "text.txt",
      "The harbour of Vellin freezes every January. Ships wait at the outer pier.\n\n"
      "The train to Brask leaves at seven in the morning and again at noon. Tickets are sold by the baker.\n");
  const std::string said = directory_.write("said.txt",
                                            "When does the train to Brask leave?\nWho sells the tickets?\n"
                                            "When does the harbour freeze?\n");
  const CommandResult result = run_cepe(
      {"chat", "--model", "models/smollm2-135m-cepe", "--context", text, "--form", "question", "--dtype", "float32"},
      {.shell = "exec < '" + said + "'"});
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.out, "seven in the morning and again at noon.\nthe baker\nJanuary\n");
}

TEST_F(ChatCommand, ForgetsAndTakesAnotherSystemMessage) {
  const std::string plain = answer_to("plain", turn("user", "Who goes there?")),
                    brief = answer_to("plain", turn("system", "Be brief.") + turn("user", "Who goes there?"));
  ASSERT_NE(plain, brief);
  const std::string question = "Who goes there?\n/reset\n";
  const CommandResult result = chat(
      "plain", question + "/system Be brief.\n" + question + question + "/system\n" + question + "/quit\nNever read\n");
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.out, plain + "\n" + brief + "\n" + brief + "\n" + plain + "\n");
}

TEST_F(ChatCommand, ReadsDocuments) {
  const std::string one = document("one.txt", 30), two = document("the second.txt", 20);
  const std::string question = turn("user", "Who goes there?");
  const std::string none = answer_to("published", question),
                    first = answer_to("published", question, {"--context", one}),
                    second = answer_to("published", question, {"--context", two}),
                    both = answer_to("published", question, {"--context", one, two});
  ASSERT_NE(none, first);
  const std::string ask = "/reset\nWho goes there?\n";
  const std::string bad = directory_.write("bad.txt", "a\xff");
  const CommandResult result =
      chat("published",
           ask + "/context add \"" + two + "\"\n/context list\n" + ask + "/context drop 1\n" + ask +
               // A file that fails leaves the context as it was, with those named before it.
               "/context add '" + two + "' " + bad + "\n" + ask + "/context drop 3\n/context drop 2\n" + ask +
               "/context drop all\n/context list\n" + ask,
           {"--context", one});
  EXPECT_EQ(result.out, first + "\n" + both + "\n" + second + "\n" + second + "\n" + second + "\n" + none + "\n")
      << result.err;
  EXPECT_TRUE(has(result.err, "1  " + one)) << result.err;
  EXPECT_TRUE(has(result.err, "2  " + two)) << result.err;
  EXPECT_TRUE(has(result.err, "cepe: /context: " + bad)) << result.err;
  EXPECT_TRUE(has(result.err, "there is no document 3: they are numbered from 1 to 1")) << result.err;
  EXPECT_TRUE(has(result.err, "the context is empty")) << result.err;
  EXPECT_EQ(result.status, 1);  // a script sees that something failed
}

// Chunks that are read again stand before their question, and are not remembered.
TEST_F(ChatCommand, ReadsChunksAgain) {
  const std::string one = document("one.txt", 30), two = directory_.write("two.txt", "The boats said nothing.");
  const Words more = {"--context", one, two, "--window", "1024"};
  const std::string first =
      answer_to("published", turn("user", "The boats said nothing.\n\nWho sailed the boats?"), more);
  const std::string second = answer_to(
      "published", turn("user", "Who sailed the boats?") + turn("assistant", first) + turn("user", "Elephants?"), more);
  const CommandResult result = chat("published", "Who sailed the boats?\nElephants?\n", with(more, {"--expand", "1"}));
  EXPECT_EQ(result.out, first + "\n" + second + "\n") << result.err;
  EXPECT_TRUE(has(result.err, "(read again as text: " + two + ", tokens 0 to ")) << result.err;

  // More chunks than the window holds: fewer are read.
  const CommandResult many =
      chat("published", "Who stood on the hill?\n", {"--context", one, two, "--window", "256", "--expand", "16"});
  EXPECT_EQ(many.status, 0) << many.err;
  EXPECT_FALSE(has(many.err, "leaves no room")) << many.err;
  EXPECT_TRUE(has(many.err, "(read again as text: " + one)) << many.err;

  // Of two documents the one that a question is about, as if it were alone; then the other one, once the first is gone.
  const Words both = {"--context", one, two, "--window", "1024", "--top-chunks", "1"};
  const CommandResult top = chat("published", "/context list\nWho sailed the boats?\n/context drop 2\n", both);
  EXPECT_EQ(top.status, 0) << top.err;
  EXPECT_EQ(
      top.out,
      answer_to("published", turn("user", "Who sailed the boats?"), {"--context", two, "--window", "1024"}) + "\n");
  EXPECT_TRUE(has(top.err, "(of the context 1 of ")) << top.err;
}

TEST_F(ChatCommand, SavesAndLoads) {
  const std::string file = (directory_.path() / "a conversation.json").string(), one = document("one.txt", 3);
  const CommandResult result =
      chat("published", "Who goes there?\n/save '" + file + "'\n", {"--system", "Be brief.", "--context", one});
  ASSERT_EQ(result.status, 0) << result.err;
  const json saved = json::parse(read_file(file));
  const std::string answer = result.out.substr(0, result.out.size() - 1);
  EXPECT_EQ(saved["messages"], json({{{"role", "system"}, {"content", "Be brief."}},
                                     {{"role", "user"}, {"content", "Who goes there?"}},
                                     {{"role", "assistant"}, {"content", answer}}}));
  EXPECT_EQ(saved["context"], json({one}));
  EXPECT_EQ(saved["model"], golden("published"));

  const std::string text =
      turn("system", "Be brief.") + turn("user", "Who goes there?") + turn("assistant", answer) + turn("user", "Why?");
  EXPECT_EQ(chat("published", "/load '" + file + "'\nWhy?\n").out, answer_to("published", text) + "\n");
  const std::string broken = directory_.write("broken.json", R"({"messages": [{"role": "user", "content": "a"}]})");
  const CommandResult other = chat("published", "/load " + broken + "\n/save /absent/x.json\n/save\n");
  EXPECT_TRUE(has(other.err, "cepe: /load: " + broken + ": the last question has no answer")) << other.err;
  EXPECT_TRUE(has(other.err, "cepe: /save: /absent/x.json: cannot")) << other.err;
  EXPECT_TRUE(has(other.err, "cepe: /save: expected the name of one file")) << other.err;
  EXPECT_TRUE(has(other.err, "3 of the lines that were read ended in an error")) << other.err;
}

TEST_F(ChatCommand, WrongCommandsAreTold) {
  const CommandResult result = chat("plain", "/contxt add a\n/\n/context frob\n/save 'a\n/help\n/context add a.txt\n");
  EXPECT_EQ(result.out, "");
  EXPECT_TRUE(has(result.err, "cepe: /contxt: there is no such command; did you mean /context? (/help lists them)\n"))
      << result.err;
  EXPECT_TRUE(has(result.err, "cepe: /: there is no such command (/help")) << result.err;
  EXPECT_TRUE(has(result.err, "cepe: /context: expected add FILE..., list, drop N or drop all\n")) << result.err;
  EXPECT_TRUE(has(result.err, "cepe: /save: a quote is not closed")) << result.err;
  for (const char* name :
       {"/context add FILE...", "/context drop N|all", "/system", "/reset", "/save", "/load", "/quit"})
    EXPECT_TRUE(has(result.err, name)) << name;
  EXPECT_TRUE(has(result.err, "a plain decoder has no encoder to read a context with")) << result.err;
}

TEST_F(ChatCommand, WhatBeginsWithASlashMayBeSaid) {
  const std::string expected = answer_to("plain", turn("user", "/etc is what?"));
  EXPECT_EQ(chat("plain", "\"\"\"/etc is what?\"\"\"\n").out, expected + "\n");
}

// The window is 128 tokens.
TEST_F(ChatCommand, OldTurnsLeaveTheWindow) {
  std::string said;
  for (int i = 0; i < 6; ++i) said += "Who goes there, number " + std::to_string(i) + "?\n";
  const CommandResult result = chat("plain", said);
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_TRUE(has(result.err, "(the oldest turn no longer fits into the window of 128 tokens")) << result.err;
  const CommandResult large = chat("plain", "Short?\n" + std::string(400, '?') + "\nShort?\n");
  EXPECT_TRUE(has(large.err, "which leaves no room for an answer in the decoder's window of 128")) << large.err;
  // The question that could not be asked is forgotten, so the last one is the second.
  const std::string first = answer_to("plain", turn("user", "Short?"));
  EXPECT_EQ(large.out,
            first + "\n" +
                answer_to("plain", turn("user", "Short?") + turn("assistant", first) + turn("user", "Short?")) + "\n");
}

TEST_F(ChatCommand, NeedsAChatTemplate) {
  const fs::path model = directory_.copy_of(golden("plain"));
  fs::remove(model / "tokenizer_config.json");
  const Words words = {"chat", "--model", model.string()};
  expect_refused(words, "has no chat template, and a conversation needs one: --chat-template FILE gives it");
  const std::string file = directory_.write("t.jinja", "{% for m in messages %}{{ m.content }} {% endfor %}");
  const CommandResult result = run_cepe(with(words, {"--chat-template", file, "--max-tokens", kTokens}),
                                        {.shell = "exec < '" + directory_.write("said.txt", "The road\n") + "'"});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_NE(result.out, "");
  expect_refused(with(words, {"--temperature", "-1"}), "temperature");
  expect_refused({"chat", "--model", golden("published"), "--context", "/absent.txt"}, "/absent.txt");
  expect_refused({"chat", "--model", "/absent"}, "/absent");
}

TEST_F(ChatCommand, OnATerminalItPromptsAndLeaves) {
  Terminal terminal({"chat", "--model", golden("plain"), "--max-tokens", kTokens});
  terminal.expect("/help lists the commands");
  terminal.expect("\n> ");
  terminal.type("Who goes there?\n");
  terminal.expect("Who goes there?\r\n");
  terminal.expect("\n> ");
  terminal.type("The rain?\\\n");
  terminal.expect("\n. ");
  terminal.type("The road?\n");
  terminal.expect("\n> ");
  terminal.type("/hel\n");
  terminal.expect("did you mean /help?");
  terminal.expect("\n> ");
  terminal.type(Terminal::kEnd);
  EXPECT_EQ(terminal.wait(), 0);  // what failed was read by a person
}

TEST_F(ChatCommand, CtrlCAtThePromptClearsTheLineAndThenLeaves) {
  Terminal terminal({"chat", "--model", golden("plain"), "--max-tokens", kTokens});
  terminal.expect("\n> ");
  terminal.type("a line that is not w");
  terminal.expect("not w");
  terminal.type(Terminal::kInterrupt);
  terminal.expect("(Ctrl-C again, Ctrl-D or /quit leaves)");
  terminal.expect("\n> ");
  terminal.type("/system\n");  // the line before is gone
  terminal.expect("there is no system message");
  terminal.expect("\n> ");
  terminal.type(Terminal::kInterrupt);  // the first of two again
  terminal.expect("(Ctrl-C again, Ctrl-D or /quit leaves)");
  terminal.expect("\n> ");
  terminal.type(Terminal::kInterrupt);
  EXPECT_EQ(terminal.wait(), 0);
}

// An answer of 100,000 tokens takes much longer than the test waits.
TEST_F(ChatCommand, CtrlCStopsAnAnswerAndNotTheProgram) {
  const std::string file = (directory_.path() / "saved.json").string();
  Terminal terminal({"chat", "--model", golden("plain"), "--window", "200000", "--max-tokens", "100000"});
  terminal.expect("\n> ");
  terminal.type("Who goes there?\n");
  terminal.expect("there?\r\n");
  terminal.expect("a");  // of the answer
  terminal.type(Terminal::kInterrupt);
  terminal.expect("(stopped");
  terminal.expect("\n> ");
  terminal.type("/save " + file + "\n");
  terminal.expect("2 messages");
  const json saved = json::parse(read_file(file));
  EXPECT_NE(saved["messages"][1]["content"], "");
  terminal.type("/quit\n");
  EXPECT_EQ(terminal.wait(), 0);
}

}  // namespace
}  // namespace cepe
