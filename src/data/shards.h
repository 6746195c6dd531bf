// Token shards: a corpus as token ids, memory-mapped while training (docs/formats/tokens.md). A shard holds documents,
// from which training draws spans, or samples, which say themselves what is context and which tokens are scored.
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
  int64_t offset = 0;                   // of its first token
  int64_t length = 0;                   // in tokens, at least 1
  int32_t domain = 0;                   // index into domains()
  int64_t first_piece = 0, pieces = 0;  // of a sample, among all pieces of the shard; of a document none
};

// A part of a sample, in the order of its tokens: first the chunks of the context, then the decoder's segments.
struct SamplePiece {
  int64_t length = 0;    // tokens, at least 1
  bool context = false;  // a chunk for the encoder: never joined with another; else a segment for the decoder
  float weight = 0;      // of the loss of predicting each token of a decoder's segment; 0: read, not scored. Context: 0
  bool operator==(const SamplePiece&) const = default;
};

enum class ShardKind { documents, samples };  // version 1 and 2 of the format

constexpr size_t kMaxDomainBytes = 255;  // of the name of a domain

// Writes a shard document by document, or sample by sample; nothing is visible under its name before commit(). Ids take
// 2 bytes where the vocabulary has at most 65,536 of them, else 4. Throws Error naming the file; what was refused is
// left out, and the writer can go on.
class ShardWriter {
 public:
  ShardWriter(std::filesystem::path path, ShardVocabulary vocabulary, ShardKind kind = ShardKind::documents);
  void add(std::span<const TokenId> tokens, const std::string& domain);  // an empty document is an Error
  // A sample: pieces cover the tokens, context before decoder. The decoder's first token predicts the second and is
  // not predicted itself; at least one token after it has a weight above 0. A sample may have no context.
  void add_sample(std::span<const TokenId> tokens, std::span<const SamplePiece> pieces, const std::string& domain);
  void commit();
  int64_t tokens() const { return tokens_; }
  int64_t documents() const { return static_cast<int64_t>(documents_.size()); }

 private:
  void append_document(std::span<const TokenId> tokens, const std::string& domain);

  std::filesystem::path path_;
  AtomicFile file_;
  ShardVocabulary vocabulary_;
  ShardKind kind_;
  int64_t tokens_ = 0;
  std::vector<ShardDocument> documents_;
  std::vector<std::string> domains_;
  std::map<std::string, int32_t> domain_index_;
  std::vector<SamplePiece> pieces_;
  std::string buffer_;
};

// A shard, memory-mapped. The constructor checks everything that the file says, every token id included, and throws
// Error naming the file and what is wrong. Reading is thread-safe.
class TokenShard {
 public:
  explicit TokenShard(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_.path(); }
  const ShardVocabulary& vocabulary() const { return vocabulary_; }
  ShardKind kind() const { return kind_; }
  // Of a shard of samples: the samples.
  const std::vector<ShardDocument>& documents() const { return documents_; }
  const std::vector<std::string>& domains() const { return domains_; }
  int64_t tokens() const { return tokens_; }
  // Copies `count` ids from token `first` on; the range must lie inside the shard.
  void read(int64_t first, int64_t count, int64_t* out) const;
  // The pieces of a sample, an index into documents(). Error in a shard of documents.
  std::vector<SamplePiece> pieces(size_t document) const;

 private:
  void read_header();
  void read_layout();
  void read_documents(uint64_t offset, uint64_t count);
  void check_sample(size_t index) const;
  void read_domains(uint64_t offset, uint64_t count, uint64_t end);
  void check_tokens() const;

  MappedFile file_;
  ShardVocabulary vocabulary_;
  ShardKind kind_ = ShardKind::documents;
  int64_t width_ = 0, tokens_ = 0, pieces_ = 0;
  uint64_t pieces_at_ = 0;  // where the table of pieces begins
  std::vector<ShardDocument> documents_;
  std::vector<std::string> domains_;
};

}  // namespace cepe
