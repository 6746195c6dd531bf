#include "context/read_context.h"

#include "base/error.h"
#include "context/encode_context.h"
#include "text/text_file.h"

namespace cepe {

std::vector<TextChunk> read_context(const OpenedModel& opened, const std::vector<std::filesystem::path>& files) {
  std::vector<TextChunk> chunks;
  if (files.empty()) return chunks;
  require(opened.model.encoder.has_value(),
          "{}: a plain decoder has no encoder to read a context with: give a model with CEPE parts, or no context",
          opened.path.string());
  require(opened.tokenizer != nullptr, "{}: no tokenizer was found beside the weights, and text needs one",
          opened.path.string());
  const int64_t length = context_chunk_length(opened.model.config);
  for (const std::filesystem::path& file : files) {
    read_text_file(file, "", [&](const TextDocument& document) {
      try {
        const std::vector<TokenId> tokens = opened.tokenizer->encode(document.text, {.parse_special_tokens = false});
        append_chunks(tokens, document.name, length, chunks);
      } catch (const Error& error) {
        fail("{}: {}", document.name, error.what());
      }
    });
  }
  return chunks;
}

}  // namespace cepe
