#include "model/checkpoint/tokenizer_files.h"

#include "base/file.h"
#include "io/gguf.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;

TokenizerFiles tokenizer_files_of_directory(const fs::path& source) {
  TokenizerFiles files;
  for (const char* name :
       {"tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
        "generation_config.json", "chat_template.jinja", "chat_template.json"}) {
    if (fs::is_regular_file(source / name)) files.contents[name] = read_file(source / name);
  }
  files.said = files.contents.empty() ? "without a tokenizer: " + source.string() + " has no tokenizer files to copy"
                                      : "with its tokenizer";
  return files;
}

// The vocabulary of a GGUF file as Hugging Face's tokenizer files.
TokenizerFiles tokenizer_files_of_gguf(const OpenedModel& opened, const fs::path& source) {
  const GgufVocabulary vocabulary = gguf_vocabulary(GgufFile(source));
  if (vocabulary.model != "gpt2") {
    return {{}, "without a tokenizer: the SentencePiece vocabulary of " + source.string() + " has no tokenizer.json"};
  }
  const StackConfig& decoder = opened.model.config.decoder;
  HfTokenizerSettings settings{.chat_template = opened.chat_template, .model_max_length = decoder_window(decoder)};
  if (decoder.pad_token) settings.pad = token_id_from(*decoder.pad_token, source.string() + ": the padding token");
  const HfTokenizerFiles files = hf_tokenizer_files(vocabulary, settings);
  return {{{"tokenizer.json", files.tokenizer_json}, {"tokenizer_config.json", files.tokenizer_config_json}},
          "with its tokenizer"};
}

}  // namespace

void TokenizerFiles::write(const fs::path& directory) const {
  for (const auto& [name, content] : contents) write_file(directory / name, content);
}

TokenizerFiles tokenizer_files(const OpenedModel& opened) {
  const fs::path source = opened.base_path.value_or(opened.path);
  return fs::is_directory(source) ? tokenizer_files_of_directory(source) : tokenizer_files_of_gguf(opened, source);
}

}  // namespace cepe
