// The documents that an evaluation reads: text files (text/text_file.h) into tokens. The domain of plain files, and of
// records that name none, is "text": all plain files that are given together are thus one domain.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "text/tokenizer/tokenizer.h"

namespace cepe {

struct TokenDocument {
  std::string name, domain;
  std::vector<TokenId> tokens;  // no special tokens added; such as stand in the text are plain text
  std::string source;           // what the document is a part of (text/text_file.h); empty: not known
};

struct TokenDocuments {
  std::vector<TokenDocument> documents;
  std::vector<std::string> notes;  // what a user should know, a sentence each: documents left out as copies
};

// Reads and tokenises the documents of all files in order, one at a time. A document whose tokens equal an earlier
// one's of its domain is left out: as a control against that earlier one it would be the same text. Error naming the
// file (and line) when it cannot be read, is empty, is damaged, or holds no valid UTF-8 or JSON.
TokenDocuments read_token_documents(const std::vector<std::filesystem::path>& files, const Tokenizer& tokenizer);

}  // namespace cepe
