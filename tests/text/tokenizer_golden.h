// The recorded tokenizer goldens of tests/golden/tokenizer (made by record.py there).
#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer/tokenizer.h"

namespace cepe::golden {

std::filesystem::path directory();
std::string read_zst(const std::string& name);
const std::vector<std::string>& texts();
const nlohmann::json& cases();  // {"patterns": {name: pattern}, "cases": [...]}

// h = h * 6364136223846793005 + value + 1, modulo 2^64.
class Hash {
 public:
  void add(uint64_t value) { value_ = value_ * 6364136223846793005ULL + value + 1; }
  uint64_t value() const { return value_; }

 private:
  uint64_t value_ = 0;
};
uint64_t hash_of(std::span<const TokenId> ids);
uint64_t hash_of(std::string_view bytes);

// Hash `which` (0: tokens, 1: the rest) of a text in the case at `index`; cases() first, then bpe and unigram.
uint64_t recorded(size_t index, size_t text, int which);
std::vector<uint64_t> read_hashes(const std::string& name);

struct Vocabulary {
  std::vector<std::string> tokens, merges;  // tokens: all of them
};
Vocabulary vocabulary(const std::string& name);

// The whole tokenizer.json of a case.
nlohmann::json tokenizer_json(const nlohmann::json& entry);
// The same vocabulary as a GGUF file holds it, where the case names a GGUF pre-tokenizer.
GgufVocabulary gguf_vocabulary(const nlohmann::json& entry);

// A directory of its own that is removed at the end.
class ScratchDirectory {
 public:
  ScratchDirectory();
  ~ScratchDirectory();
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  // Writes a file there and returns its path.
  std::filesystem::path file(const std::string& name, std::string_view content) const;

 private:
  std::filesystem::path path_;
};

}  // namespace cepe::golden
