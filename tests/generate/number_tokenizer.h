// A tokenizer for tests of models without one: token 17 is the text "17 ".
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "text/tokenizer/tokenizer.h"

namespace cepe {

class NumberTokenizer : public Tokenizer {
 public:
  explicit NumberTokenizer(int64_t vocabulary) : vocabulary_(vocabulary) {}

  std::vector<TokenId> encode(std::string_view, const EncodeOptions&) const override { fail("numbers are not read"); }
  std::string decode(std::span<const TokenId> tokens, bool) const override {
    std::string text;
    for (const TokenId token : tokens) text += std::to_string(token) + " ";
    return text;
  }
  std::unique_ptr<StreamingDecoder> streaming_decoder(bool) const override { return std::make_unique<Stream>(); }
  int64_t vocabulary_size() const override { return vocabulary_; }
  std::optional<TokenId> token_id(std::string_view) const override { return std::nullopt; }
  std::string token_text(TokenId id) const override { return std::to_string(id); }
  std::optional<TokenId> bos() const override { return std::nullopt; }
  std::optional<TokenId> eos() const override { return std::nullopt; }
  std::string describe() const override { return "numbers"; }

 private:
  struct Stream : StreamingDecoder {
    std::string push(TokenId token) override { return std::to_string(token) + " "; }
    std::string finish() override { return ""; }
  };
  int64_t vocabulary_;
};

}  // namespace cepe
