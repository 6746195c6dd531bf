// The text that an evaluation reads: files into documents, documents into tokens.
//
//   NAME.jsonl, NAME.jsonl.zst   one JSON object a line: "text" (required), "domain" (else "text")
//   NAME.zst                     compressed plain text, one document
//   anything else                plain UTF-8 text, one document; its domain is "text"
//
// All plain files that are given together are thus one domain. Compressed files may use windows of up to 2 GiB
// (zstd --long=31); records are read one at a time, so memory follows the longest record.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace cepe {

struct TextDocument {
  std::string name;  // where it came from: "emma.txt", or "valid.jsonl.zst:17" for the record on line 17
  std::string domain;
  std::string text;  // valid UTF-8, never empty
};

// Hands over the documents of all files in order. Records whose text is empty are passed over. Error naming the file
// (and line) when it cannot be read, is empty, is damaged, or holds no valid UTF-8 or JSON.
void read_documents(const std::vector<std::filesystem::path>& files, const std::function<void(TextDocument)>& use);

struct TokenDocument {
  std::string name, domain;
  std::vector<TokenId> tokens;  // no special tokens added; such as stand in the text are plain text
};

struct TokenDocuments {
  std::vector<TokenDocument> documents;
  std::vector<std::string> notes;  // what a user should know, a sentence each: documents left out as copies
};

// Reads and tokenises. A document whose tokens equal an earlier one's of its domain is left out: as a control against
// that earlier one it would be the same text.
TokenDocuments read_token_documents(const std::vector<std::filesystem::path>& files, const Tokenizer& tokenizer);

}  // namespace cepe
