#include "ask/layout.h"

#include <algorithm>

#include "ask/sources/sentences.h"
#include "base/error.h"
#include "text/chunker.h"

namespace cepe {
namespace {

struct Labels {
  const char *question, *answer;
};
constexpr Labels kUsual = {"Question: ", "\nAnswer:"};
// What people write instead; a small part.
constexpr Labels kOthers[] = {{"Q: ", "\nA:"},
                              {"Question: ", " Answer:"},
                              {"question: ", "\nanswer:"},
                              {"", "\nAnswer:"},
                              {"Question:\n", "\n\nAnswer:"}};
constexpr double kOtherLabels = 0.1;

int64_t decoder_length(const AskSample& sample) {
  int64_t length = 0;
  for (const SamplePiece& piece : sample.pieces) length += piece.context ? 0 : piece.length;
  return length;
}

std::string instruction_of(const AskTurn& turn) { return turn.instruction.empty() ? "" : turn.instruction + "\n\n"; }
// What stands before a question, or in its place, is not scored.
bool scores_question(const AskTurn& turn) { return turn.wording.empty() && turn.instruction.empty(); }

}  // namespace

AskLayout::AskLayout(const Tokenizer& tokenizer, const AskChat* chat, AskLayoutOptions options)
    : tokenizer_(tokenizer), chat_(chat), options_(options) {
  require(tokenizer.eos().has_value(), "answers end with the end-of-text token, but the tokenizer has none");
  end_ = *tokenizer.eos();
  // A space of its own before " b" shows.
  std::vector<TokenId> pieces = tokenizer.encode("a");
  for (const TokenId token : tokenizer.encode(" b")) pieces.push_back(token);
  apart_ = pieces == tokenizer.encode("a b");
  const std::string prompt = "Question: Who?\nAnswer:", answer = " Anna Hale";
  require(encode_after(prompt, answer, false) && encode_after(prompt + answer, "\n\n" + prompt, false),
          "the tokenizer encodes a prompt otherwise when its answer follows, so that answers cannot be told apart");
  if (!chat_) return;
  const std::string first = render({{"user", "A?"}}, true);
  const std::string later = render({{"user", "A?"}, {"assistant", "B"}, {"user", "C?"}}, true);
  require(
      later.starts_with(first + "B") && later.size() > first.size() + 1,
      "the model's chat template does not go on from the text of the conversation before it: set samples.chat to 0");
}

std::string AskLayout::render(const std::vector<ChatMessage>& messages, bool open) const {
  const auto text = [&](std::optional<TokenId> token) { return token ? tokenizer_.token_text(*token) : std::string(); };
  return chat_->chat_template.render({.messages = messages,
                                      .add_generation_prompt = open,
                                      .bos_token = text(tokenizer_.bos()),
                                      .eos_token = text(tokenizer_.eos()),
                                      .special_tokens = chat_->special_tokens});
}

// The tokens of `text` behind `before`; nothing where the tokens of `before` are others when `text` follows.
std::optional<std::vector<TokenId>> AskLayout::encode_after(const std::string& before, const std::string& text,
                                                            bool special) const {
  const EncodeOptions options{.add_special_tokens = before.empty() && !special, .parse_special_tokens = special};
  if (apart_ || before.empty()) return tokenizer_.encode(text, options);
  const std::vector<TokenId> shorter = tokenizer_.encode(before, options);
  const std::vector<TokenId> longer = tokenizer_.encode(before + text, options);
  if (longer.size() < shorter.size() || !std::equal(shorter.begin(), shorter.end(), longer.begin())) {
    return std::nullopt;
  }
  return std::vector<TokenId>(longer.begin() + static_cast<std::ptrdiff_t>(shorter.size()), longer.end());
}

std::vector<std::string> document_texts(const AskDraft& draft, AskRandom& random) {
  const int64_t way = draft.titles ? 1 + random.below(5) : random.below(8);
  std::vector<std::string> texts;
  for (size_t i = 0; i < draft.documents.size(); ++i) {
    const AskDocument& document = draft.documents[i];
    const bool several = draft.documents.size() > 1;
    std::string text;
    if (!document.title.empty()) {
      switch (way) {
        case 1:
        case 2: text = document.title + "\n"; break;
        case 3: text = document.title + "\n\n"; break;
        case 4: text = "Title: " + document.title + "\n"; break;
        case 5:
          text = several ? fmt::format("Document {}:\n{}\n", i + 1, document.title) : document.title + "\n";
          break;
        default: break;
      }
    }
    texts.push_back(text + document.text);
  }
  return texts;
}

void AskLayout::add_piece(std::span<const TokenId> tokens, double weight, AskSample& sample) const {
  if (tokens.empty()) return;
  sample.tokens.insert(sample.tokens.end(), tokens.begin(), tokens.end());
  sample.pieces.push_back({static_cast<int64_t>(tokens.size()), false, static_cast<float>(weight)});
}

void AskLayout::add_context(const AskDraft& draft, AskRandom& random, AskSample& sample) const {
  std::vector<TextChunk> chunks;
  for (const std::string& text : document_texts(draft, random)) {
    std::vector<TokenId> tokens = tokenizer_.encode(text, {.parse_special_tokens = false});
    const auto most = static_cast<size_t>(options_.chunk_length);
    if (draft.passages && tokens.size() > most) tokens.resize(most);
    append_chunks(std::move(tokens), "", options_.chunk_length, chunks);
  }
  for (const TextChunk& chunk : chunks) {
    sample.tokens.insert(sample.tokens.end(), chunk.tokens.begin(), chunk.tokens.end());
    sample.pieces.push_back({static_cast<int64_t>(chunk.tokens.size()), true, 0});
  }
}

// Adds a turn where it fits with the token that ends it; the prompt's first token ends the answer before.
bool AskLayout::add_turn(const std::vector<TokenId>& prompt, const std::vector<TokenId>& answer, bool scored_question,
                         AskSample& sample) const {
  const int64_t before = decoder_length(sample);
  const auto length = static_cast<int64_t>(prompt.size() + answer.size());
  if (before + length + 1 > options_.decoder_tokens || prompt.empty() || answer.empty()) return false;
  std::span<const TokenId> rest = prompt;
  if (before > 0) {
    add_piece(rest.first(1), options_.answer_weight, sample);
    rest = rest.subspan(1);
  }
  add_piece(rest, scored_question ? options_.question_weight : 0, sample);
  add_piece(answer, options_.answer_weight, sample);
  return true;
}

void AskLayout::add_questions(const AskDraft& draft, AskRandom& random, AskSample& sample) const {
  const Labels labels = random.chance(kOtherLabels) ? random.pick(kOthers) : kUsual;
  bool closed = true;
  std::string done;  // the text so far
  for (size_t t = 0; t < draft.turns.size(); ++t) {
    const AskTurn& turn = draft.turns[t];
    std::string text = decoder_length(sample) == 0 ? draft.decoder_text : "";
    if (!text.empty() || decoder_length(sample) > 0) text += "\n\n";
    text += turn.wording.empty() ? instruction_of(turn) + labels.question + turn.question + labels.answer
                                 : turn.wording + turn.answer_prefix;
    const bool question = scores_question(turn) && (t > 0 || draft.decoder_text.empty());
    const auto prompt = encode_after(done, text, false);
    done += text;
    const std::string answer_text = (turn.joined ? "" : " ") + turn.answer;
    auto answer = encode_after(done, answer_text, false);
    done += answer_text;
    if (draft.passages && prompt && answer) {
      const auto read = decoder_length(sample) + static_cast<int64_t>(prompt->size()) + 1;
      const auto room = static_cast<size_t>(std::max<int64_t>(options_.decoder_tokens - read, 0));
      if (answer->size() > room) answer->resize(room);
    }
    const bool added = prompt && answer && add_turn(*prompt, *answer, question, sample);
    if (!added) break;
    closed = !turn.open;
    if (turn.open) break;
  }
  if (closed && decoder_length(sample) > 0) add_piece(std::vector<TokenId>{end_}, options_.answer_weight, sample);
}

void AskLayout::add_chat(const AskDraft& draft, AskSample& sample) const {
  std::vector<ChatMessage> messages;
  std::string done;  // the text so far
  for (const AskTurn& turn : draft.turns) {
    std::string message = turn.wording.empty() ? instruction_of(turn) + turn.question : turn.wording;
    if (messages.empty() && !draft.decoder_text.empty()) message = draft.decoder_text + "\n\n" + message;
    messages.push_back({"user", std::move(message)});
    const std::string text = render(messages, true);
    require(text.starts_with(done), "the chat template does not go on from the text of the conversation before it");
    const std::string prefix(trimmed(turn.answer_prefix));
    auto prompt = encode_after(done, text.substr(done.size()), true);
    const auto more = encode_after(text, prefix, false);
    if (prompt && more && !prefix.empty()) prompt->insert(prompt->end(), more->begin(), more->end());
    const std::string answer = (prefix.empty() ? "" : " ") + turn.answer;
    const auto tokens = encode_after(text + prefix, answer, false);
    if (!prompt || !more || !tokens || !add_turn(*prompt, *tokens, scores_question(turn), sample)) {
      messages.pop_back();
      break;
    }
    messages.push_back({"assistant", prefix + answer});
    done = text + prefix + answer;
  }
  if (messages.empty()) return;
  // What the template writes behind the last answer: its first token ends the turn.
  const std::string text = render(messages, false);
  std::optional<std::vector<TokenId>> rest;
  if (text.starts_with(done)) rest = encode_after(done, text.substr(done.size()), true);
  if (!rest || rest->empty()) rest = std::vector<TokenId>{end_};
  add_piece(std::span(*rest).first(1), options_.answer_weight, sample);
}

std::optional<AskSample> AskLayout::lay_out(const AskDraft& draft, bool chat, AskRandom& random) const {
  AskSample sample;
  if (draft.turns.empty()) return std::nullopt;
  add_context(draft, random, sample);
  if (sample.pieces.empty() || static_cast<int64_t>(sample.pieces.size()) > options_.most_chunks) return std::nullopt;
  if (chat && chat_ && !draft.plain) {
    add_chat(draft, sample);
  } else {
    add_questions(draft, random, sample);
  }
  if (decoder_length(sample) == 0) return std::nullopt;
  return sample;
}

}  // namespace cepe
