#include "data/shards.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/error.h"

namespace cepe {
namespace {

constexpr char kMagic[8] = {'C', 'E', 'P', 'E', 'T', 'O', 'K', 'S'};
constexpr char kEndMagic[8] = {'C', 'E', 'P', 'E', 'T', 'E', 'N', 'D'};
constexpr uint32_t kDocumentsVersion = 1, kSamplesVersion = 2;
constexpr uint64_t kHeaderBytes = 64, kFooterBytes = 64, kDocumentBytes = 24, kSampleBytes = 40, kPieceBytes = 8;
constexpr uint32_t kContextBit = 0x80000000u;  // of a piece's length
constexpr size_t kFlushBytes = 1 << 22;

template <typename T>
void append(std::string& out, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) out += static_cast<char>(static_cast<uint64_t>(value) >> (8 * i) & 0xFF);
}

template <typename T>
T load(std::span<const std::byte> bytes, uint64_t offset) {
  T value;  // little-endian, as the machines that cepe runs on
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

uint64_t padded(uint64_t bytes) { return (bytes + 7) / 8 * 8; }

class Fnv1a {
 public:
  void add(std::string_view bytes) {
    for (unsigned char c : bytes) state_ = (state_ ^ c) * 1099511628211u;
    state_ = (state_ ^ 0xFF) * 1099511628211u;  // no UTF-8 text holds this byte: it ends an entry
  }
  uint64_t value() const { return state_; }

 private:
  uint64_t state_ = 14695981039346656037u;
};

// Why these pieces cannot be a sample of `tokens` tokens; empty: they can.
std::string fault_of(std::span<const SamplePiece> pieces, int64_t tokens) {
  int64_t left = tokens, decoder = 0;
  bool scored = false;
  for (size_t i = 0; i < pieces.size(); ++i) {
    const SamplePiece& piece = pieces[i];
    if (piece.length < 1 || piece.length > left)
      return fmt::format("piece {} has {} tokens where {} are left", i, piece.length, left);
    if (!std::isfinite(piece.weight) || piece.weight < 0)
      return fmt::format("piece {} has the weight {}, expected a number of at least 0", i, piece.weight);
    if (piece.context && piece.weight != 0)
      return fmt::format("piece {} is context and has the weight {}, expected 0", i, piece.weight);
    if (piece.context && decoder > 0) return fmt::format("piece {} is context after the decoder's tokens", i);
    left -= piece.length;
    if (piece.context) continue;
    decoder += piece.length;
    scored = scored || (piece.weight > 0 && decoder > 1);  // the decoder's first token is never predicted
  }
  if (left != 0) return fmt::format("the pieces leave {} tokens over", left);
  if (!scored) return "no token after the decoder's first has a weight above 0";
  return "";
}

template <typename T>
T largest(std::span<const std::byte> bytes, int64_t count) {
  const T* ids = reinterpret_cast<const T*>(bytes.data());
  T most = 0;
  for (int64_t i = 0; i < count; ++i) most = std::max(most, ids[i]);
  return most;
}

}  // namespace

uint64_t tokenizer_fingerprint(const Tokenizer& tokenizer) {
  Fnv1a hash;
  hash.add(std::to_string(tokenizer.vocabulary_size()));
  for (int64_t id = 0; id < tokenizer.vocabulary_size(); ++id) {
    try {
      hash.add(tokenizer.token_text(static_cast<TokenId>(id)));
    } catch (const Error&) {
      hash.add("");  // an id that the vocabulary leaves out
    }
  }
  const char* probe = "The 128 lights of Zürich, 1984:\n\tif (x != y) { return \"naïve\"; }  // 東京 🙂 don't";
  for (TokenId id : tokenizer.encode(probe, {.parse_special_tokens = false})) hash.add(std::to_string(id));
  return hash.value() == 0 ? 1 : hash.value();
}

ShardWriter::ShardWriter(std::filesystem::path path, ShardVocabulary vocabulary, ShardKind kind)
    : path_(path), file_(path), vocabulary_(vocabulary), kind_(kind) {
  require(vocabulary.size > 0 && vocabulary.size <= INT32_MAX, "{}: a vocabulary of {} tokens", path_.string(),
          vocabulary.size);
  buffer_.append(kMagic, sizeof kMagic);
  append<uint32_t>(buffer_, kind == ShardKind::samples ? kSamplesVersion : kDocumentsVersion);
  append<uint32_t>(buffer_, vocabulary.size <= 65536 ? 2 : 4);
  append<uint64_t>(buffer_, static_cast<uint64_t>(vocabulary.size));
  append<uint64_t>(buffer_, vocabulary.fingerprint);
  buffer_.resize(kHeaderBytes, '\0');
}

void ShardWriter::add(std::span<const TokenId> tokens, const std::string& domain) {
  require(kind_ == ShardKind::documents, "{}: a document in a shard of samples", path_.string());
  append_document(tokens, domain);
}

void ShardWriter::add_sample(std::span<const TokenId> tokens, std::span<const SamplePiece> pieces,
                             const std::string& domain) {
  require(kind_ == ShardKind::samples, "{}: a sample in a shard of documents", path_.string());
  require(tokens.size() < kContextBit, "{}: a sample of {} tokens, at most {} are possible", path_.string(),
          tokens.size(), kContextBit - 1);
  const std::string fault = fault_of(pieces, static_cast<int64_t>(tokens.size()));
  require(fault.empty(), "{}: sample {}: {}", path_.string(), documents_.size(), fault);
  append_document(tokens, domain);
  documents_.back().first_piece = static_cast<int64_t>(pieces_.size());
  documents_.back().pieces = static_cast<int64_t>(pieces.size());
  pieces_.insert(pieces_.end(), pieces.begin(), pieces.end());
}

// Checks everything before anything is kept.
void ShardWriter::append_document(std::span<const TokenId> tokens, const std::string& domain) {
  require(!tokens.empty(), "{}: a document without tokens", path_.string());
  require(!domain.empty() && domain.size() <= kMaxDomainBytes, "{}: a domain's name takes 1 to {} bytes, found {}",
          path_.string(), kMaxDomainBytes, domain.size());
  for (TokenId id : tokens) {
    require(id >= 0 && id < vocabulary_.size, "{}: token id {} is outside the vocabulary of {}", path_.string(), id,
            vocabulary_.size);
  }
  auto [entry, fresh] = domain_index_.try_emplace(domain, static_cast<int32_t>(domains_.size()));
  if (fresh) domains_.push_back(domain);
  const bool narrow = vocabulary_.size <= 65536;
  for (TokenId id : tokens) {
    if (narrow) {
      append<uint16_t>(buffer_, static_cast<uint16_t>(id));
    } else {
      append<uint32_t>(buffer_, static_cast<uint32_t>(id));
    }
    if (buffer_.size() >= kFlushBytes) {
      file_.write(buffer_);
      buffer_.clear();
    }
  }
  documents_.push_back({tokens_, static_cast<int64_t>(tokens.size()), entry->second});
  tokens_ += static_cast<int64_t>(tokens.size());
}

void ShardWriter::commit() {
  const uint64_t width = vocabulary_.size <= 65536 ? 2 : 4, token_bytes = static_cast<uint64_t>(tokens_) * width;
  buffer_.append(padded(token_bytes) - token_bytes, '\0');
  for (const ShardDocument& document : documents_) {
    append<uint64_t>(buffer_, static_cast<uint64_t>(document.offset));
    append<uint64_t>(buffer_, static_cast<uint64_t>(document.length));
    append<uint64_t>(buffer_, static_cast<uint64_t>(document.domain));
    if (kind_ == ShardKind::documents) continue;
    append<uint64_t>(buffer_, static_cast<uint64_t>(document.first_piece));
    append<uint64_t>(buffer_, static_cast<uint64_t>(document.pieces));
  }
  for (const SamplePiece& piece : pieces_) {
    append<uint32_t>(buffer_, static_cast<uint32_t>(piece.length) | (piece.context ? kContextBit : 0));
    append<uint32_t>(buffer_, std::bit_cast<uint32_t>(piece.weight));
  }
  uint64_t domain_bytes = 0;
  for (const std::string& domain : domains_) {
    append<uint32_t>(buffer_, static_cast<uint32_t>(domain.size()));
    buffer_ += domain;
    domain_bytes += 4 + domain.size();
  }
  buffer_.append(padded(domain_bytes) - domain_bytes, '\0');
  std::string footer;
  append<uint64_t>(footer, static_cast<uint64_t>(tokens_));
  append<uint64_t>(footer, documents_.size());
  append<uint64_t>(footer, domains_.size());
  append<uint64_t>(footer, pieces_.size());
  footer.resize(kFooterBytes - sizeof kEndMagic, '\0');
  footer.append(kEndMagic, sizeof kEndMagic);
  file_.write(buffer_ + footer);
  file_.commit();
}

TokenShard::TokenShard(const std::filesystem::path& path) : file_(path) {
  read_header();
  read_layout();
  check_tokens();
}

void TokenShard::read_header() {
  const std::string name = path().string();
  const auto bytes = file_.bytes();
  require(bytes.size() >= kHeaderBytes + kFooterBytes, "{}: {} bytes are too few for a token shard", name,
          bytes.size());
  require(std::memcmp(bytes.data(), kMagic, sizeof kMagic) == 0, "{}: not a token shard (made by `cepe data`)", name);
  const uint32_t version = load<uint32_t>(bytes, 8);
  require(version == kDocumentsVersion || version == kSamplesVersion,
          "{}: token shard of version {}, expected {} or {}", name, version, kDocumentsVersion, kSamplesVersion);
  kind_ = version == kSamplesVersion ? ShardKind::samples : ShardKind::documents;
  require(std::memcmp(bytes.data() + bytes.size() - sizeof kEndMagic, kEndMagic, sizeof kEndMagic) == 0,
          "{}: the token shard has no end mark: it is cut short", name);
  width_ = load<uint32_t>(bytes, 12);
  const uint64_t vocabulary = load<uint64_t>(bytes, 16);
  require(vocabulary > 0 && vocabulary <= INT32_MAX, "{}: a vocabulary of {} tokens", name, vocabulary);
  require(width_ == (vocabulary <= 65536 ? 2 : 4), "{}: token ids of {} bytes for a vocabulary of {}", name, width_,
          vocabulary);
  vocabulary_ = {static_cast<int64_t>(vocabulary), load<uint64_t>(bytes, 24)};
}

void TokenShard::read_layout() {
  const std::string name = path().string();
  const auto bytes = file_.bytes();
  const uint64_t footer = bytes.size() - kFooterBytes, limit = bytes.size();
  const uint64_t tokens = load<uint64_t>(bytes, footer), documents = load<uint64_t>(bytes, footer + 8);
  const uint64_t domains = load<uint64_t>(bytes, footer + 16), pieces = load<uint64_t>(bytes, footer + 24);
  // Each count is bounded by the file's size first, so that no product below can overflow.
  const char* what = kind_ == ShardKind::samples ? "samples" : "documents";
  require(tokens <= limit && documents <= limit && domains <= limit && pieces <= limit,
          "{}: {} tokens, {} {}, {} domains and {} pieces do not fit in {} bytes", name, tokens, documents, what,
          domains, pieces, limit);
  require(kind_ == ShardKind::samples || pieces == 0, "{}: {} pieces of samples in a shard of documents", name, pieces);
  const uint64_t documents_at = kHeaderBytes + padded(tokens * static_cast<uint64_t>(width_));
  pieces_at_ = documents_at + documents * (kind_ == ShardKind::samples ? kSampleBytes : kDocumentBytes);
  const uint64_t domains_at = pieces_at_ + pieces * kPieceBytes;
  require(domains_at <= footer, "{}: {} tokens, {} {} and {} pieces do not fit in {} bytes", name, tokens, documents,
          what, pieces, limit);
  require(tokens > 0 && documents > 0 && domains > 0, "{}: the token shard is empty", name);
  tokens_ = static_cast<int64_t>(tokens);
  pieces_ = static_cast<int64_t>(pieces);
  read_domains(domains_at, domains, footer);
  read_documents(documents_at, documents);
}

void TokenShard::read_domains(uint64_t offset, uint64_t count, uint64_t end) {
  const std::string name = path().string();
  const auto bytes = file_.bytes();
  uint64_t at = offset;
  for (uint64_t i = 0; i < count; ++i) {
    require(end - at >= 4, "{}: the name of domain {} passes the end of the table", name, i);
    const uint32_t length = load<uint32_t>(bytes, at);
    at += 4;
    require(length > 0 && length <= kMaxDomainBytes && length <= end - at, "{}: the name of domain {} takes {} bytes",
            name, i, length);
    domains_.emplace_back(reinterpret_cast<const char*>(bytes.data() + at), length);
    require(std::find(domains_.begin(), domains_.end() - 1, domains_.back()) == domains_.end() - 1,
            "{}: domain {} stands twice in the table", name, domains_.back());
    at += length;
  }
  require(offset + padded(at - offset) == end, "{}: {} bytes follow the table of domains", name, end - at);
}

void TokenShard::read_documents(uint64_t offset, uint64_t count) {
  const std::string name = path().string();
  const auto bytes = file_.bytes();
  const bool samples = kind_ == ShardKind::samples;
  const char* what = samples ? "sample" : "document";
  int64_t next = 0, next_piece = 0;
  documents_.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t at = offset + i * (samples ? kSampleBytes : kDocumentBytes);
    const uint64_t first = load<uint64_t>(bytes, at), length = load<uint64_t>(bytes, at + 8),
                   domain = load<uint64_t>(bytes, at + 16);
    require(first == static_cast<uint64_t>(next), "{}: {} {} starts at token {}, expected {}", name, what, i, first,
            next);
    require(length > 0 && length <= static_cast<uint64_t>(tokens_ - next), "{}: {} {} has {} tokens of {}", name, what,
            i, length, tokens_ - next);
    require(domain < domains_.size(), "{}: {} {} is of domain {} of {}", name, what, i, domain, domains_.size());
    documents_.push_back({next, static_cast<int64_t>(length), static_cast<int32_t>(domain)});
    next += static_cast<int64_t>(length);
    if (!samples) continue;
    const uint64_t first_piece = load<uint64_t>(bytes, at + 24), pieces = load<uint64_t>(bytes, at + 32);
    require(first_piece == static_cast<uint64_t>(next_piece), "{}: sample {} starts at piece {}, expected {}", name, i,
            first_piece, next_piece);
    require(pieces > 0 && pieces <= static_cast<uint64_t>(pieces_ - next_piece), "{}: sample {} has {} pieces of {}",
            name, i, pieces, pieces_ - next_piece);
    documents_.back().first_piece = next_piece;
    documents_.back().pieces = static_cast<int64_t>(pieces);
    next_piece += static_cast<int64_t>(pieces);
    check_sample(i);
  }
  require(next == tokens_, "{}: the {}s hold {} tokens of {}", name, what, next, tokens_);
  require(next_piece == pieces_, "{}: the samples hold {} pieces of {}", name, next_piece, pieces_);
}

void TokenShard::check_sample(size_t index) const {
  const std::string fault = fault_of(pieces(index), documents_[index].length);
  require(fault.empty(), "{}: sample {}: {}", path().string(), index, fault);
}

std::vector<SamplePiece> TokenShard::pieces(size_t document) const {
  require(kind_ == ShardKind::samples, "{}: a shard of documents, expected one of samples", path().string());
  require(document < documents_.size(), "{}: sample {} of {}", path().string(), document, documents_.size());
  const ShardDocument& sample = documents_[document];
  std::vector<SamplePiece> pieces(static_cast<size_t>(sample.pieces));
  uint64_t at = pieces_at_ + static_cast<uint64_t>(sample.first_piece) * kPieceBytes;
  for (SamplePiece& piece : pieces) {
    const uint32_t length = load<uint32_t>(file_.bytes(), at);
    piece = {length & ~kContextBit, (length & kContextBit) != 0, load<float>(file_.bytes(), at + 4)};
    at += kPieceBytes;
  }
  return pieces;
}

void TokenShard::check_tokens() const {
  const auto bytes = file_.bytes().subspan(kHeaderBytes);
  const int64_t most = width_ == 2 ? largest<uint16_t>(bytes, tokens_) : largest<uint32_t>(bytes, tokens_);
  require(most < vocabulary_.size, "{}: token id {} is outside the vocabulary of {}", path().string(), most,
          vocabulary_.size);
}

void TokenShard::read(int64_t first, int64_t count, int64_t* out) const {
  require(first >= 0 && count >= 0 && count <= tokens_ && first <= tokens_ - count, "{}: tokens {} to {} of {}",
          path().string(), first, first + count, tokens_);
  const std::byte* at = file_.bytes().data() + kHeaderBytes + first * width_;
  if (width_ == 2) {
    std::copy_n(reinterpret_cast<const uint16_t*>(at), count, out);
  } else {
    std::copy_n(reinterpret_cast<const uint32_t*>(at), count, out);
  }
}

}  // namespace cepe
