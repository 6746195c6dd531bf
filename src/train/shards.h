// Token shards: a corpus as token ids, memory-mapped while training (docs/formats/tokens.md). No torch here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "text/tokenizer/tokenizer.h"

namespace cepe {

// A number that differs between tokenizers: FNV-1a over the vocabulary's spellings and the ids of a probe text.
uint64_t tokenizer_fingerprint(const Tokenizer& tokenizer);

// What a shard says about the tokenizer that made it.
struct ShardVocabulary {
  int64_t size = 0;          // every token id lies below it
  uint64_t fingerprint = 0;  // tokenizer_fingerprint(); 0: not known
};

struct ShardDocument {
  int64_t offset = 0;  // of its first token
  int64_t length = 0;  // in tokens, at least 1
  int32_t domain = 0;  // index into domains()
};

// Writes a shard document by document; nothing is visible under its name before commit(). Ids take 2 bytes where
// the vocabulary has at most 65,536 of them, else 4. Throws Error naming the file.
class ShardWriter {
 public:
  ShardWriter(std::filesystem::path path, ShardVocabulary vocabulary);
  void add(std::span<const TokenId> tokens, const std::string& domain);  // an empty document is an Error
  void commit();
  int64_t tokens() const { return tokens_; }
  int64_t documents() const { return static_cast<int64_t>(documents_.size()); }

 private:
  std::filesystem::path path_;
  AtomicFile file_;
  ShardVocabulary vocabulary_;
  int64_t tokens_ = 0;
  std::vector<ShardDocument> documents_;
  std::vector<std::string> domains_;
  std::map<std::string, int32_t> domain_index_;
  std::string buffer_;
};

// A shard, memory-mapped. The constructor checks everything that the file says, every token id included, and throws
// Error naming the file and what is wrong. Reading is thread-safe.
class TokenShard {
 public:
  explicit TokenShard(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_.path(); }
  const ShardVocabulary& vocabulary() const { return vocabulary_; }
  const std::vector<ShardDocument>& documents() const { return documents_; }
  const std::vector<std::string>& domains() const { return domains_; }
  int64_t tokens() const { return tokens_; }
  // Copies `count` ids from token `first` on; the range must lie inside the shard.
  void read(int64_t first, int64_t count, int64_t* out) const;

 private:
  void read_layout();
  void read_documents(uint64_t offset, uint64_t count);
  void read_domains(uint64_t offset, uint64_t count, uint64_t end);
  void check_tokens() const;

  MappedFile file_;
  ShardVocabulary vocabulary_;
  int64_t width_ = 0, tokens_ = 0;
  std::vector<ShardDocument> documents_;
  std::vector<std::string> domains_;
};

}  // namespace cepe
