#include "train/shards.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"

namespace cepe {
namespace {

constexpr char kMagic[8] = {'C', 'E', 'P', 'E', 'T', 'O', 'K', 'S'};
constexpr char kEndMagic[8] = {'C', 'E', 'P', 'E', 'T', 'E', 'N', 'D'};
constexpr uint32_t kVersion = 1;
constexpr uint64_t kHeaderBytes = 64, kFooterBytes = 64, kDocumentBytes = 24;
constexpr size_t kMaxDomainBytes = 255;
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

ShardWriter::ShardWriter(std::filesystem::path path, ShardVocabulary vocabulary)
    : path_(path), file_(path), vocabulary_(vocabulary) {
  require(vocabulary.size > 0 && vocabulary.size <= INT32_MAX, "{}: a vocabulary of {} tokens", path_.string(),
          vocabulary.size);
  buffer_.append(kMagic, sizeof kMagic);
  append<uint32_t>(buffer_, kVersion);
  append<uint32_t>(buffer_, vocabulary.size <= 65536 ? 2 : 4);
  append<uint64_t>(buffer_, static_cast<uint64_t>(vocabulary.size));
  append<uint64_t>(buffer_, vocabulary.fingerprint);
  buffer_.resize(kHeaderBytes, '\0');
}

void ShardWriter::add(std::span<const TokenId> tokens, const std::string& domain) {
  require(!tokens.empty(), "{}: a document without tokens", path_.string());
  require(!domain.empty() && domain.size() <= kMaxDomainBytes, "{}: a domain's name takes 1 to {} bytes, found {}",
          path_.string(), kMaxDomainBytes, domain.size());
  auto [entry, fresh] = domain_index_.try_emplace(domain, static_cast<int32_t>(domains_.size()));
  if (fresh) domains_.push_back(domain);
  const bool narrow = vocabulary_.size <= 65536;
  for (TokenId id : tokens) {
    require(id >= 0 && id < vocabulary_.size, "{}: token id {} is outside the vocabulary of {}", path_.string(), id,
            vocabulary_.size);
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
  footer.resize(kFooterBytes - sizeof kEndMagic, '\0');
  footer.append(kEndMagic, sizeof kEndMagic);
  file_.write(buffer_ + footer);
  file_.commit();
}

TokenShard::TokenShard(const std::filesystem::path& path) : file_(path) {
  read_layout();
  check_tokens();
}

void TokenShard::read_layout() {
  const std::string name = path().string();
  const auto bytes = file_.bytes();
  require(bytes.size() >= kHeaderBytes + kFooterBytes, "{}: {} bytes are too few for a token shard", name,
          bytes.size());
  require(std::memcmp(bytes.data(), kMagic, sizeof kMagic) == 0, "{}: not a token shard (made by `cepe data`)", name);
  const uint32_t version = load<uint32_t>(bytes, 8);
  require(version == kVersion, "{}: token shard of version {}, expected {}", name, version, kVersion);
  const uint64_t footer = bytes.size() - kFooterBytes;
  require(std::memcmp(bytes.data() + bytes.size() - sizeof kEndMagic, kEndMagic, sizeof kEndMagic) == 0,
          "{}: the token shard has no end mark: it is cut short", name);
  width_ = load<uint32_t>(bytes, 12);
  const uint64_t vocabulary = load<uint64_t>(bytes, 16);
  require(vocabulary > 0 && vocabulary <= INT32_MAX, "{}: a vocabulary of {} tokens", name, vocabulary);
  require(width_ == (vocabulary <= 65536 ? 2 : 4), "{}: token ids of {} bytes for a vocabulary of {}", name, width_,
          vocabulary);
  vocabulary_ = {static_cast<int64_t>(vocabulary), load<uint64_t>(bytes, 24)};

  const uint64_t tokens = load<uint64_t>(bytes, footer), documents = load<uint64_t>(bytes, footer + 8);
  const uint64_t domains = load<uint64_t>(bytes, footer + 16), limit = bytes.size();
  // Each count is bounded by the file's size first, so that no product below can overflow.
  require(tokens <= limit && documents <= limit && domains <= limit,
          "{}: {} tokens, {} documents and {} domains do not fit in {} bytes", name, tokens, documents, domains, limit);
  const uint64_t documents_at = kHeaderBytes + padded(tokens * static_cast<uint64_t>(width_));
  const uint64_t domains_at = documents_at + documents * kDocumentBytes;
  require(domains_at <= footer, "{}: {} tokens and {} documents do not fit in {} bytes", name, tokens, documents,
          limit);
  require(tokens > 0 && documents > 0 && domains > 0, "{}: the token shard is empty", name);
  tokens_ = static_cast<int64_t>(tokens);
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
  int64_t next = 0;
  documents_.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t at = offset + i * kDocumentBytes;
    const uint64_t first = load<uint64_t>(bytes, at), length = load<uint64_t>(bytes, at + 8),
                   domain = load<uint64_t>(bytes, at + 16);
    require(first == static_cast<uint64_t>(next), "{}: document {} starts at token {}, expected {}", name, i, first,
            next);
    require(length > 0 && length <= static_cast<uint64_t>(tokens_ - next), "{}: document {} has {} tokens of {}", name,
            i, length, tokens_ - next);
    require(domain < domains_.size(), "{}: document {} is of domain {} of {}", name, i, domain, domains_.size());
    documents_.push_back({next, static_cast<int64_t>(length), static_cast<int32_t>(domain)});
    next += static_cast<int64_t>(length);
  }
  require(next == tokens_, "{}: the documents hold {} tokens of {}", name, next, tokens_);
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
