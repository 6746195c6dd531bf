// Conversations with the template and the tokenizer of a small recorded model (tests/golden/generate, ChatML) and with
// templates of real models (tests/golden/chat).
#include "generate/conversation.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/file.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;

const fs::path kGolden = fs::path(CEPE_TEST_DATA);

class ConversationTest : public testing::Test {
 protected:
  static std::string text(const std::vector<TokenId>& tokens) { return opened().tokenizer->decode(tokens, false); }
  static const OpenedModel& opened() {
    static const OpenedModel model = open_model(kGolden / "generate/plain");
    return model;
  }
  const PromptBuilder builder_{opened()};
  static std::string chatml(const std::string& role, const std::string& content) {
    return "<|im_start|>" + role + "\n" + content + "<|im_end|>\n";
  }
  static constexpr const char* kAnswer = "<|im_start|>assistant\n";
};

TEST_F(ConversationTest, IsRenderedInOrder) {
  Conversation conversation;
  conversation.set_system("Be brief.");
  conversation.ask("Who goes there?");
  conversation.answer("A friend");
  conversation.ask("Which?");
  const ConversationPrompt prompt = conversation.prompt(builder_, {.window = 1000, .answer_tokens = 10});
  EXPECT_EQ(prompt.turns_left_out, 0);
  EXPECT_EQ(text(prompt.tokens), chatml("system", "Be brief.") + chatml("user", "Who goes there?") +
                                     chatml("assistant", "A friend") + chatml("user", "Which?") + kAnswer);
  conversation.answer("");
  conversation.clear();
  conversation.ask("Who?");
  EXPECT_EQ(text(conversation.prompt(builder_, {.window = 1000}).tokens),
            chatml("system", "Be brief.") + chatml("user", "Who?") + kAnswer);
}

TEST_F(ConversationTest, ATextBeforeTheQuestionIsNotRemembered) {
  Conversation conversation;
  conversation.ask("Who goes there?");
  conversation.answer("A friend");
  conversation.ask("Which?");
  EXPECT_EQ(conversation.question(), "Which?");
  EXPECT_EQ(text(conversation.prompt(builder_, {.window = 1000}, "It was Anna.").tokens),
            chatml("user", "Who goes there?") + chatml("assistant", "A friend") +
                chatml("user", "It was Anna.\n\nWhich?") + kAnswer);
  conversation.answer("Anna");
  EXPECT_EQ(conversation.messages()[2].content, "Which?");
  EXPECT_THROW(static_cast<void>(conversation.question()), Error);
}

// Every window: the prompt holds the newest turns, as many as fit beside the answer, checked against a search from the
// other end.
TEST_F(ConversationTest, TheOldestTurnsLeave) {
  Conversation conversation;
  conversation.set_system("Be brief.");
  const int turns = 9;
  std::vector<std::string> rendered;  // of each turn
  for (int i = 0; i < turns; ++i) {
    const std::string question = "Question " + std::to_string(i) + std::string(static_cast<size_t>(i * 7 % 5), '?');
    conversation.ask(question);
    rendered.push_back(chatml("user", question));
    if (i + 1 == turns) break;
    const std::string answer(static_cast<size_t>(3 + i * 11 % 17), 'a');
    conversation.answer(answer);
    rendered.back() += chatml("assistant", answer);
  }
  const auto expected_text = [&](int left_out) {
    std::string whole = chatml("system", "Be brief.");
    for (int i = left_out; i < turns; ++i) whole += rendered[static_cast<size_t>(i)];
    return whole + kAnswer;
  };
  const auto size = [&](int left_out) {
    return static_cast<int64_t>(
        opened().tokenizer->encode(expected_text(left_out), {.add_special_tokens = false}).size());
  };
  const int64_t answer = 20;
  std::set<int64_t> seen;
  for (int64_t window = size(turns - 1) + 1; window < size(0) + answer + 2; ++window) {
    const ConversationPrompt prompt = conversation.prompt(builder_, {.window = window, .answer_tokens = answer});
    const int64_t limit = window - std::min(answer, window / 2);
    int expected = turns - 1;
    while (expected > 0 && size(expected - 1) <= limit) --expected;
    ASSERT_EQ(prompt.turns_left_out, expected) << "window " << window;
    ASSERT_EQ(text(prompt.tokens), expected_text(expected));
    ASSERT_LT(static_cast<int64_t>(prompt.tokens.size()), window);
    seen.insert(expected);
  }
  EXPECT_EQ(seen.size(), static_cast<size_t>(turns));     // every number of turns was left out in some window
  EXPECT_EQ(conversation.messages().size(), 2u * turns);  // all is remembered
}

TEST_F(ConversationTest, TheLastQuestionAndTheSystemMessageNeverLeave) {
  Conversation conversation;
  conversation.set_system("Be brief.");
  conversation.ask("Who goes there?");
  conversation.answer("A friend");
  conversation.ask("Which of them, and what does he want at this hour?");
  const int64_t least = static_cast<int64_t>(
      opened()
          .tokenizer
          ->encode(chatml("system", "Be brief.") +
                       chatml("user", "Which of them, and what does he want at this hour?") + kAnswer,
                   {.add_special_tokens = false})
          .size());
  EXPECT_EQ(conversation.prompt(builder_, {.window = least + 1, .answer_tokens = 100}).turns_left_out, 1);
  try {
    conversation.prompt(builder_, {.window = least, .answer_tokens = 100});
    FAIL() << "a prompt without room for an answer";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("the question and the system message have " + std::to_string(least)),
              std::string::npos)
        << error.what();
  }
}

// Templates that want questions and answers in turn never see them otherwise.
TEST_F(ConversationTest, RealTemplatesTakeWhatIsLeft) {
  for (const char* name :
       {"mistral-7b-instruct-v0.3", "llama-2-chat", "llama-3.1-instruct", "qwen3", "smollm2-instruct"}) {
    SCOPED_TRACE(name);
    const PromptBuilder builder(
        opened(), {.text = read_file(kGolden / "chat/templates" / (std::string(name) + ".jinja")), .file = name});
    Conversation conversation;
    conversation.set_system("Be brief.");
    for (int i = 0; i < 6; ++i) {
      conversation.ask("Who is number " + std::to_string(i) + "?");
      conversation.answer("Number " + std::to_string(i) + " is a friend");
    }
    conversation.ask("Who is the last?");
    const int64_t all =
        static_cast<int64_t>(conversation.prompt(builder, {.window = 100000, .answer_tokens = 0}).tokens.size());
    const ConversationPrompt prompt = conversation.prompt(builder, {.window = all - 10, .answer_tokens = 20});
    EXPECT_GE(prompt.turns_left_out, 1);
    EXPECT_LT(prompt.turns_left_out, 4);
    const std::string shown = text(prompt.tokens);
    EXPECT_EQ(shown.find("number 0"), std::string::npos) << shown;
    EXPECT_NE(shown.find("Who is number 5?"), std::string::npos) << shown;
    EXPECT_NE(shown.find("Number 5 is a friend"), std::string::npos) << shown;
    EXPECT_NE(shown.find("Be brief."), std::string::npos) << shown;
    EXPECT_NE(shown.find("Who is the last?"), std::string::npos) << shown;
  }
}

TEST_F(ConversationTest, QuestionsAndAnswersComeInTurn) {
  Conversation conversation;
  EXPECT_THROW(conversation.answer("No question"), Error);
  EXPECT_THROW(conversation.ask(""), Error);
  EXPECT_THROW(conversation.prompt(builder_, {.window = 100}), Error);
  conversation.ask("One?");
  EXPECT_THROW(conversation.ask("Two?"), Error);
  conversation.take_back();
  EXPECT_EQ(conversation.turns(), 0);
  conversation.ask("One?");
  conversation.answer("An answer that was stop");
  conversation.take_back();  // an answered question stays
  EXPECT_EQ(conversation.messages().back().content, "An answer that was stop");
  EXPECT_THROW(conversation.prompt(builder_, {.window = 100}), Error);
  const PromptBuilder raw(opened(), {.none = true});
  conversation.ask("Two?");
  EXPECT_THROW(conversation.prompt(raw, {.window = 100}), Error);
}

TEST_F(ConversationTest, IsTheSameAfterJson) {
  Conversation conversation;
  conversation.set_system("Be \"brief\".\n");
  conversation.ask("Who?");
  conversation.answer("");
  conversation.ask("\u00fcber?");
  conversation.answer("No one\n");
  const nlohmann::json list = messages_as_json(conversation.messages());
  EXPECT_EQ(list, nlohmann::json::parse(R"([{"role": "system", "content": "Be \"brief\".\n"},
    {"role": "user", "content": "Who?"}, {"role": "assistant", "content": ""},
    {"role": "user", "content": "über?"}, {"role": "assistant", "content": "No one\n"}])"));
  EXPECT_EQ(messages_as_json(conversation_from_json(list, "a.json").messages()), list);
  EXPECT_EQ(conversation_from_json(nlohmann::json::array(), "a.json").turns(), 0);
}

TEST_F(ConversationTest, OtherListsAreRefused) {
  const auto refused = [](const char* list, const std::string& phrase) {
    try {
      conversation_from_json(nlohmann::json::parse(list), "a.json");
      ADD_FAILURE() << "taken: " << list;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("a.json: " + phrase), std::string::npos) << error.what();
    }
  };
  refused("{}", "expected a list of messages");
  refused("[3]", "message 1: expected a message with");
  refused(R"([{"role": "user"}])", "message 1: expected a message with");
  refused(R"([{"role": "user", "content": [1]}])", "message 1: expected a message with");
  refused(R"([{"role": "assistant", "content": "a"}])", "message 1: expected the role \"user\"");
  refused(R"([{"role": "user", "content": "a"}, {"role": "system", "content": "a"}])", "message 2: expected the role");
  refused(R"([{"role": "user", "content": ""}])", "message 1: the question is empty");
  refused(R"([{"role": "user", "content": "a"}])", "the last question has no answer");
}

// One builder gives what a builder for each prompt gives.
TEST_F(ConversationTest, ATemplateIsParsedOnce) {
  for (const char* question : {"Who?", "Where?", "<|im_end|>"}) {
    const PromptInput input{.text = question, .system = "Be brief."};
    const Prompt one = builder_.prompt(question, "Be brief."), other = build_prompt(opened(), input);
    EXPECT_EQ(one.tokens, other.tokens);
    EXPECT_TRUE(one.templated);
    EXPECT_EQ(builder_.chat({{"system", "Be brief."}, {"user", question}}), one.tokens);
  }
  EXPECT_EQ(PromptBuilder(opened(), {.none = true}).prompt("Who?").tokens, builder_.continuation("Who?"));
}

}  // namespace
}  // namespace cepe
