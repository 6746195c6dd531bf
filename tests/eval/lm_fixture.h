// What tests of `eval lm` share: recorded decoders in float64, and a tokenizer whose tokens are words.
#pragma once

#include <ATen/Parallel.h>

#include <filesystem>
#include <string>

#include "base/error.h"
#include "model/checkpoint/checkpoint.h"

namespace cepe {

// A model of tests/golden. window: decoder_window(); 0: the model's own.
inline Cepe open_lm_fixture(const std::string& name, int64_t window) {
  at::set_num_threads(1);  // such small tensors only wait for threads
  OpenOptions options;
  options.dtype = at::kDouble;
  if (window > 0) options.window = window;
  return open_model(std::filesystem::path(CEPE_TEST_DATA) / name, options).model;
}

// Token 12 is the word "12".
class NumberTokenizer : public Tokenizer {
 public:
  std::vector<TokenId> encode(std::string_view, const EncodeOptions&) const override { fail("not needed"); }
  std::string decode(std::span<const TokenId> tokens, bool) const override {
    std::string text;
    for (const TokenId token : tokens) text += std::to_string(token) + " ";
    return text;
  }
  std::unique_ptr<StreamingDecoder> streaming_decoder(bool) const override { return nullptr; }
  int64_t vocabulary_size() const override { return 128; }
  std::optional<TokenId> token_id(std::string_view) const override { return std::nullopt; }
  std::string token_text(TokenId id) const override { return std::to_string(id); }
  std::optional<TokenId> bos() const override { return std::nullopt; }
  std::optional<TokenId> eos() const override { return std::nullopt; }
  std::string describe() const override { return "numbers"; }
};

}  // namespace cepe
