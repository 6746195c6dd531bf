// WordPiece, the tokenizer of BERT and its family (Devlin et al. 2019, arXiv 1810.04805). The reference is the Hugging
// Face `tokenizers` package: BertNormalizer, BertPreTokenizer and the WordPiece model with "##".
//
// A text is cleaned (control characters go, each kind of space becomes one), spaces are put around ideographs, accents
// and upper case are taken away where the settings say so, and what remains is cut at spaces and around punctuation.
// Each word becomes the longest pieces of the vocabulary from left to right; a word of more than 100 characters, or
// with a part that no piece covers, becomes [UNK].
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/tokenizer/normalizer.h"
#include "text/tokenizer/tokenizer.h"

namespace cepe {

struct WordPieceSettings {
  bool lower_case = true;
  bool strip_accents = true;  // combining marks are taken away after decomposition
  bool space_ideographs = true;
};

// Immutable and thread-safe after construction.
class WordPiece {
 public:
  // vocab.txt: a piece a line, its number the line's from 0. Error where the file has no [UNK], [CLS] or [SEP], or a
  // piece stands there twice.
  WordPiece(const std::filesystem::path& vocabulary, const WordPieceSettings& settings);

  // The ids of the text's pieces, without [CLS] and [SEP]. "[SEP]" in the text is plain text. Error where the text is
  // not valid UTF-8.
  std::vector<TokenId> encode(std::string_view text) const;

  int64_t vocabulary_size() const { return size_; }
  TokenId cls() const { return cls_; }
  TokenId sep() const { return sep_; }

 private:
  std::string clean(std::string_view text) const;
  void add_word(std::string_view word, std::vector<TokenId>& ids) const;
  TokenId special(const char* piece, const std::string& where) const;

  WordPieceSettings settings_;
  Normalizer decomposition_;
  std::unordered_map<std::string, TokenId> begins_, continues_;  // continues_: without their "##"
  int64_t size_ = 0;
  TokenId unknown_ = 0, cls_ = 0, sep_ = 0;
};

}  // namespace cepe
