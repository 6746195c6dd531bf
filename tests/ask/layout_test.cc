#include "ask/layout.h"

#include <gtest/gtest.h>

#include "ask/ask_fixture.h"
#include "base/error_of.h"
#include "text/tokenizer_golden.h"

namespace cepe {
namespace {

using ask_test::smollm2;

// The decoder's part, scored tokens in « ».
std::string shown(const AskSample& sample, std::vector<std::string>* chunks = nullptr) {
  std::string text;
  size_t at = 0;
  for (const SamplePiece& piece : sample.pieces) {
    const std::span<const TokenId> tokens(sample.tokens.data() + at, static_cast<size_t>(piece.length));
    at += tokens.size();
    const std::string decoded = smollm2().decode(tokens, false);
    if (piece.context) {
      if (chunks) chunks->push_back(decoded);
    } else {
      text += piece.weight > 0 ? "«" + decoded + "»" : decoded;
    }
  }
  EXPECT_EQ(at, sample.tokens.size());
  return text;
}

// A random number generator of which the layout's small share of other labels is not drawn.
AskRandom usual() { return AskRandom{4}; }

const AskDraft kDraft{.documents = {{"", "The first text."}, {"", "Another one."}},
                      .turns = {{"Who?", "Anna Hale"}, {"When?", "1871"}}};

constexpr const char* kChatMl =
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + "
    "'\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

TEST(Layout, QuestionsFollowOneAnother) {
  const AskLayout layout(smollm2(), nullptr, {});
  AskRandom random = usual();
  const auto sample = layout.lay_out(kDraft, false, random);
  ASSERT_TRUE(sample.has_value());
  std::vector<std::string> chunks;
  EXPECT_EQ(shown(*sample, &chunks),
            "Question: Who?\nAnswer:« Anna Hale»«\n»\n"
            "Question: When?\nAnswer:« 1871»«" +
                smollm2().token_text(*smollm2().eos()) + "»");
  EXPECT_EQ(chunks, (std::vector<std::string>{"The first text.", "Another one."}));
  // The prompt's tokens are those of the prompt alone, as it is encoded when it is asked.
  const std::vector<TokenId> prompt = smollm2().encode("Question: Who?\nAnswer:");
  const auto begin = sample->tokens.begin() + sample->pieces[0].length + sample->pieces[1].length;
  EXPECT_TRUE(std::equal(prompt.begin(), prompt.end(), begin));
}

TEST(Layout, QuestionWeightsAndDecoderText) {
  const AskLayout layout(smollm2(), nullptr, {.question_weight = 0.25});
  AskRandom random = usual();
  AskDraft draft = kDraft;
  const auto sample = layout.lay_out(draft, false, random);
  float least = 1;
  for (const SamplePiece& piece : sample->pieces) {
    if (!piece.context) least = std::min(least, piece.weight);
  }
  EXPECT_EQ(least, 0.25f);
  draft.decoder_text = "Title\nA passage.";
  random = usual();
  EXPECT_TRUE(shown(*layout.lay_out(draft, false, random))
                  .starts_with("Title\nA passage.\n\nQuestion: Who?\nAnswer:« Anna Hale»"));
}

// It stands before its question, and neither is scored.
TEST(Layout, AnInstructionStandsBeforeItsQuestion) {
  const AskChat chat{ChatTemplate(kChatMl)};
  const AskLayout layout(smollm2(), &chat, {.question_weight = 0.25});
  AskRandom random = usual();
  AskDraft draft = kDraft;
  draft.turns.resize(1);
  draft.turns[0].instruction = "Be short.";
  const std::string end = smollm2().token_text(*smollm2().eos());
  EXPECT_EQ(shown(*layout.lay_out(draft, false, random)),
            "Be short.\n\nQuestion: Who?\nAnswer:« Anna Hale»«" + end + "»");
  EXPECT_EQ(shown(*layout.lay_out(draft, true, random)),
            "<|im_start|>user\nBe short.\n\nWho?<|im_end|>\n<|im_start|>assistant\n«Anna Hale»«<|im_end|>»");
}

TEST(Layout, AnOpenAnswerHasNoEnd) {
  const AskLayout layout(smollm2(), nullptr, {});
  AskRandom random = usual();
  const AskDraft draft{.documents = {{"", "x y z"}},
                       .turns = {{.question = "", .answer = "b c", .wording = "a", .open = true}},
                       .plain = true};
  EXPECT_EQ(shown(*layout.lay_out(draft, true, random)), "a« b c»");
}

TEST(Layout, ChunksNeverCrossDocuments) {
  const AskLayout layout(smollm2(), nullptr, {.chunk_length = 16});
  AskRandom random = usual();
  std::string one, other;
  for (int i = 0; i < 40; ++i) one += "one ", other += "other ";
  AskDraft draft{.documents = {{"", one}, {"", other}}, .turns = {{"Q?", "A"}}};
  const auto sample = layout.lay_out(draft, false, random);
  std::vector<std::string> chunks;
  shown(*sample, &chunks);
  EXPECT_EQ(chunks.size(), 2 * ((smollm2().encode(one).size() + 15) / 16));
  std::string joined;
  for (const std::string& chunk : chunks) {
    EXPECT_FALSE(chunk.find("one") != std::string::npos && chunk.find("other") != std::string::npos) << chunk;
    joined += chunk;
  }
  EXPECT_EQ(joined, one + other);
  // Too many chunks, and an answer that does not fit.
  const AskLayout small(smollm2(), nullptr, {.chunk_length = 16, .most_chunks = 4});
  EXPECT_FALSE(small.lay_out(draft, false, random).has_value());
  draft.turns[0].answer = one;
  EXPECT_FALSE(AskLayout(smollm2(), nullptr, {.decoder_tokens = 20}).lay_out(draft, false, random).has_value());
}

// SentencePiece puts a space before every text that it encodes: the tokens are those of the whole text, so that it is
// decoded as it was, and the prompt's are those of the prompt alone.
TEST(Layout, SentencePieceTokensAreThoseOfTheWholeText) {
  for (const char* name : {"bpe.model", "unigram.model"}) {
    const auto tokenizer = load_sentencepiece(golden::directory() / name);
    const AskLayout layout(*tokenizer, nullptr, {});
    AskRandom random = usual();
    const auto sample = layout.lay_out(kDraft, false, random);
    ASSERT_TRUE(sample.has_value()) << name;
    const std::string prompt = "Question: Who?\nAnswer:", text = prompt + " Anna Hale\n\nQuestion: When?\nAnswer: 1871";
    std::vector<TokenId> decoder, expected = tokenizer->encode(text, {.add_special_tokens = true});
    size_t at = 0, first = 0;
    for (const SamplePiece& piece : sample->pieces) {
      if (!piece.context && first == 0) first = static_cast<size_t>(piece.length);
      if (!piece.context)
        decoder.insert(decoder.end(), sample->tokens.begin() + static_cast<std::ptrdiff_t>(at),
                       sample->tokens.begin() + static_cast<std::ptrdiff_t>(at + static_cast<size_t>(piece.length)));
      at += static_cast<size_t>(piece.length);
    }
    expected.push_back(*tokenizer->eos());
    EXPECT_EQ(decoder, expected) << name;
    EXPECT_EQ(first, tokenizer->encode(prompt, {.add_special_tokens = true}).size()) << name;
  }
}

TEST(Layout, ChatsUseTheTemplate) {
  const AskChat chat{ChatTemplate(kChatMl)};
  const AskLayout layout(smollm2(), &chat, {});
  AskRandom random = usual();
  const auto sample = layout.lay_out(kDraft, true, random);
  ASSERT_TRUE(sample.has_value());
  EXPECT_EQ(shown(*sample),
            "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n«Anna Hale»«<|im_end|>»\n"
            "<|im_start|>user\nWhen?"
            "<|im_end|>\n<|im_start|>assistant\n«1871»«<|im_end|>»");
  // The marks are special tokens, not their letters.
  EXPECT_EQ(sample->tokens.back(), *smollm2().token_id("<|im_end|>"));
  // With an answer's beginning of its own.
  AskDraft draft = kDraft;
  draft.turns = {{.question = "Who?", .answer = "Anna", .wording = "Say who.", .answer_prefix = " It was"}};
  EXPECT_TRUE(shown(*layout.lay_out(draft, true, random))
                  .ends_with("Say who.<|im_end|>\n<|im_start|>assistant\nIt was« Anna»«<|im_end|>»"));
}

TEST(Layout, ATemplateThatForgetsIsRefused) {
  const AskChat chat{ChatTemplate("{{ messages[-1]['content'] }}")};
  EXPECT_EQ(error_of([&] { AskLayout(smollm2(), &chat, {}); }),
            "the model's chat template does not go on from the text of the conversation before it: set samples.chat to "
            "0");
}

}  // namespace
}  // namespace cepe
