// Tokenizers: text <-> token ids, equal to the reference implementations token for token.
//
// Byte-level BPE (Hugging Face tokenizer.json; the vocabulary inside a GGUF file) and SentencePiece
// (tokenizer.model). The reference is the Hugging Face `tokenizers` package, respectively sentencepiece.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cepe {

using TokenId = int32_t;

// A number of a file as a token id; Error naming `where` when it is none.
TokenId token_id_from(int64_t id, std::string_view where);

struct EncodeOptions {
  bool add_special_tokens = false;   // begin/end-of-text tokens as the tokenizer's own template asks
  bool parse_special_tokens = true;  // "<|im_start|>" in the text becomes its token; false: plain text
};

// The vocabulary of a byte-level BPE as a GGUF file holds it. Filled by model/ from the file's metadata.
struct GgufVocabulary {
  std::string where = "GGUF vocabulary";  // the file, for messages
  std::string model;                      // tokenizer.ggml.model: "gpt2" (byte-level BPE) or "llama" (SentencePiece)
  std::string pre;                        // tokenizer.ggml.pre: "smollm", "llama-bpe", "qwen2", "gpt-2", ...
  std::vector<std::string> tokens;        // tokenizer.ggml.tokens
  std::vector<std::string> merges;        // tokenizer.ggml.merges, "left right" ("gpt2" only)
  std::vector<float> scores;              // tokenizer.ggml.scores ("llama" only)
  std::vector<int32_t>
      token_types;  // tokenizer.ggml.token_type: 1 normal, 2 unknown, 3 control, 4 user, 5 unused, 6 byte
  std::optional<TokenId> bos, eos;
  std::optional<bool> add_bos, add_eos;  // tokenizer.ggml.add_bos_token, add_eos_token; absent: the family's habit
  bool add_space_prefix = true;          // tokenizer.ggml.add_space_prefix ("llama" only)
};

// Turns ids into text piece by piece; what it returns is always whole UTF-8 characters.
class StreamingDecoder {
 public:
  virtual ~StreamingDecoder() = default;
  virtual std::string push(TokenId token) = 0;  // the text that became complete with this token, maybe empty
  virtual std::string finish() = 0;             // what remains; an unfinished character becomes U+FFFD
};

// Immutable and thread-safe after construction.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Throws Error when the text is not valid UTF-8.
  virtual std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options = {}) const = 0;
  // skip_special: control tokens give no text. Invalid byte sequences become U+FFFD. Throws Error on an id outside the
  // vocabulary.
  virtual std::string decode(std::span<const TokenId> tokens, bool skip_special = true) const = 0;
  // The tokenizer must outlive the decoder.
  virtual std::unique_ptr<StreamingDecoder> streaming_decoder(bool skip_special = true) const = 0;

  virtual int64_t vocabulary_size() const = 0;                                // highest id + 1, added tokens included
  virtual std::optional<TokenId> token_id(std::string_view token) const = 0;  // exact token text, as in the vocabulary
  virtual std::string token_text(TokenId id) const = 0;                       // the vocabulary's spelling
  virtual std::optional<TokenId> bos() const = 0;
  virtual std::optional<TokenId> eos() const = 0;
  virtual std::string describe()
      const = 0;  // one phrase for `cepe info`: "byte-level BPE, 49152 tokens (tokenizer.json)"
};

// A tokenizer.json with a BPE model; a component (normalizer, pre-tokenizer, decoder, post-processor) that is
// not supported is an Error that names it.
std::unique_ptr<Tokenizer> load_tokenizer_json(const std::filesystem::path& path);
// A SentencePiece tokenizer.model; tokenizer_config.json, special_tokens_map.json and added_tokens.json beside it,
// which may be absent, add special tokens and say what is put before a text (docs/tokenizers.md).
std::unique_ptr<Tokenizer> load_sentencepiece(const std::filesystem::path& path);
// The vocabulary of a GGUF file. An unknown `pre` is an Error that names it.
std::unique_ptr<Tokenizer> make_gguf_tokenizer(GgufVocabulary vocabulary);

// The byte-level BPE of a GGUF file as Hugging Face's libraries read it: the contents of tokenizer.json and
// tokenizer_config.json, which give the same ids. Error for a SentencePiece vocabulary and an unknown `pre`.
struct HfTokenizerFiles {
  std::string tokenizer_json, tokenizer_config_json;
};
struct HfTokenizerSettings {
  std::string chat_template;  // Jinja source, empty where there is none
  std::optional<TokenId> pad;
  int64_t model_max_length = 0;  // the decoder's window; 0: not written
};
HfTokenizerFiles hf_tokenizer_files(const GgufVocabulary& vocabulary, const HfTokenizerSettings& settings);

}  // namespace cepe
