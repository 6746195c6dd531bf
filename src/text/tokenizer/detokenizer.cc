#include "text/tokenizer/detokenizer.h"

#include "base/error.h"
#include "text/tokenizer/bpe.h"
#include "text/utf8.h"

namespace cepe {
namespace {

using Role = Detokenizer::Role;
using Kind = DetokenizerStyle::Kind;

class Joiner : public StreamingDecoder {
 public:
  Joiner(const Detokenizer& tokens, bool skip_special) : tokens_(tokens), skip_special_(skip_special) {}

  std::string push(TokenId token) final {
    std::string text;
    add(token, text);
    return text;
  }
  std::string finish() final {
    std::string text;
    end(text);
    return text;
  }

  virtual void add(TokenId token, std::string& out) = 0;
  virtual void end(std::string& out) = 0;

 protected:
  // Whether the token gives no text at all. Throws Error when its id is outside the vocabulary.
  bool skipped(TokenId token) const {
    tokens_.require_known(token);
    return skip_special_ && tokens_.role(token) == Role::special;
  }
  const Detokenizer& tokens_;
  bool skip_special_;
};

class ByteLevelJoiner final : public Joiner {
 public:
  using Joiner::Joiner;
  void add(TokenId token, std::string& out) override {
    if (!skipped(token)) assembler_.push(tokens_.text(token), out);
  }
  void end(std::string& out) override { assembler_.finish(out); }

 private:
  Utf8Assembler assembler_;
};

class SentencePieceJoiner final : public Joiner {
 public:
  using Joiner::Joiner;

  void add(TokenId token, std::string& out) override {
    const bool skip = skipped(token);
    std::string_view text = tokens_.text(token);
    if (tokens_.role(token) == Role::byte) {
      at_start_ = false;
      return assembler_.push(text, out);
    }
    assembler_.finish(out);
    if (skip) return;
    const DetokenizerStyle& style = tokens_.style();
    if (at_start_ && style.strip_leading_space && tokens_.role(token) == Role::normal && text.starts_with(' ')) {
      text.remove_prefix(1);
      if (!style.strip_all_leading) at_start_ = false;
    }
    if (!text.empty()) at_start_ = false;
    out += text;
  }
  void end(std::string& out) override { assembler_.finish(out); }

 private:
  bool at_start_ = true;
  Utf8Assembler assembler_{Utf8Assembler::Replacement::each_byte};
};

class FusedJoiner final : public Joiner {
 public:
  using Joiner::Joiner;

  void add(TokenId token, std::string& out) override {
    if (skipped(token)) return;
    if (tokens_.role(token) == Role::byte) {
      bytes_ += tokens_.text(token);
      return;
    }
    end(out);
    emit(tokens_.text(token), out);
  }
  void end(std::string& out) override {
    if (find_invalid_utf8(bytes_) == std::string_view::npos) {
      emit(bytes_, out);
    } else {
      for (size_t k = 0; k < bytes_.size(); ++k) emit("\xEF\xBF\xBD", out);
    }
    bytes_.clear();
  }

 private:
  void emit(std::string_view text, std::string& out) {
    if (text.empty()) return;
    if (at_start_ && tokens_.style().strip_leading_space && text.front() == ' ') text.remove_prefix(1);
    at_start_ = false;
    out += text;
  }
  bool at_start_ = true;
  std::string bytes_;  // of the byte tokens since the last other token
};

std::unique_ptr<Joiner> make_joiner(const Detokenizer& tokens, bool skip_special) {
  switch (tokens.style().kind) {
    case Kind::byte_level: return std::make_unique<ByteLevelJoiner>(tokens, skip_special);
    case Kind::sentencepiece: return std::make_unique<SentencePieceJoiner>(tokens, skip_special);
    case Kind::metaspace_fused: return std::make_unique<FusedJoiner>(tokens, skip_special);
  }
  return nullptr;
}

std::string with_spaces(std::string_view spelling, std::string_view space) {
  std::string text;
  for (size_t at = 0; at < spelling.size();) {
    const bool is_space = spelling.substr(at).starts_with(space);
    text.push_back(is_space ? ' ' : spelling[at]);
    at += is_space ? space.size() : 1;
  }
  return text;
}

}  // namespace

void Detokenizer::append_with_text(std::string_view text, Role role) {
  texts_ += text;
  ends_.push_back(texts_.size());
  roles_.push_back(role);
}

void Detokenizer::append(std::string_view spelling, Role role) {
  if (style_.kind == Kind::byte_level) {
    return append_with_text(bytes_of_spelling(spelling).value_or(std::string(spelling)), role);
  }
  if (role == Role::byte) {
    return append_with_text(std::string(1, static_cast<char>(byte_of_fallback_token(spelling).value_or(0))), role);
  }
  append_with_text(with_spaces(spelling, style_.space), role);
}

void Detokenizer::require_known(TokenId id) const {
  if (id >= 0 && static_cast<size_t>(id) < size()) return;
  fail("token {} is outside the vocabulary of {} tokens ({})", id, size(), source_);
}

std::string Detokenizer::decode(std::span<const TokenId> tokens, bool skip_special) const {
  const auto joiner = make_joiner(*this, skip_special);
  std::string text;
  for (const TokenId token : tokens) joiner->add(token, text);
  joiner->end(text);
  return text;
}

std::unique_ptr<StreamingDecoder> Detokenizer::stream(bool skip_special) const {
  return make_joiner(*this, skip_special);
}

}  // namespace cepe
