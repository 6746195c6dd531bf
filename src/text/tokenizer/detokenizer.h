// From tokens back to text: what each token stands for, and how the pieces are joined.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer/tokenizer.h"

namespace cepe {

struct DetokenizerStyle {
  enum class Kind {
    byte_level,       // tokens spell bytes in the GPT-2 alphabet
    sentencepiece,    // as libsentencepiece: byte tokens in a row are joined to characters one by one
    metaspace_fused,  // as the decoder Replace, ByteFallback, Fuse: byte tokens in a row are valid as a whole or not
  } kind = Kind::byte_level;
  std::string space = "\xE2\x96\x81";  // U+2581: what stands for a space (not byte_level)
  bool strip_leading_space = false;    // one space at the beginning of the text is dropped (not byte_level)
  bool strip_all_leading = false;      // sentencepiece: as long as the text is empty (remove_extra_whitespaces)
};

// Immutable once filled; thread-safe.
class Detokenizer {
 public:
  enum class Role : uint8_t { normal, special, byte };

  Detokenizer() = default;
  // `source` names the vocabulary in messages.
  Detokenizer(DetokenizerStyle style, std::string source) : style_(std::move(style)), source_(std::move(source)) {}

  // The next id's token, with the text it decodes to where that does not follow from its spelling.
  void append(std::string_view spelling, Role role);
  void append_with_text(std::string_view text, Role role);

  std::string decode(std::span<const TokenId> tokens, bool skip_special) const;
  std::unique_ptr<StreamingDecoder> stream(bool skip_special) const;

  size_t size() const { return ends_.size(); }
  void require_known(TokenId id) const;  // throws Error when the id is outside the vocabulary
  const DetokenizerStyle& style() const { return style_; }
  std::string_view text(TokenId id) const {
    const size_t begin = id == 0 ? 0 : ends_[id - 1];
    return std::string_view(texts_).substr(begin, ends_[id] - begin);
  }
  Role role(TokenId id) const { return roles_[id]; }

 private:
  DetokenizerStyle style_;
  std::string source_;
  std::string texts_;         // of all tokens, one after another
  std::vector<size_t> ends_;  // in texts_, by id
  std::vector<Role> roles_;   // by id
};

}  // namespace cepe
