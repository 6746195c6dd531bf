#include "text/tokenizer/bpe_tokenizer.h"

#include <algorithm>
#include <mutex>
#include <unordered_set>

#include "base/error.h"
#include "text/tokenizer/word_cache.h"
#include "text/utf8.h"

namespace cepe {
namespace {

constexpr size_t kMaxIds = size_t{1} << 22;  // no vocabulary comes near; bounds what a hostile file can allocate

// All that encoding writes to; borrowed for one call, so that threads do not share it and its cache lives on.
struct Workspace {
  RegexScratch regex;
  BpeScratch bpe;
  WordCache cache;
  std::vector<TextPart> parts, inner_parts;
};

class WorkspacePool {
 public:
  std::unique_ptr<Workspace> take() {
    {
      const std::lock_guard lock(mutex_);
      if (!free_.empty()) {
        auto workspace = std::move(free_.back());
        free_.pop_back();
        return workspace;
      }
    }
    return std::make_unique<Workspace>();
  }
  void give_back(std::unique_ptr<Workspace> workspace) {
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(workspace));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Workspace>> free_;
};

class BorrowedWorkspace {
 public:
  explicit BorrowedWorkspace(WorkspacePool& pool) : pool_(pool), workspace_(pool.take()) {}
  ~BorrowedWorkspace() { pool_.give_back(std::move(workspace_)); }
  BorrowedWorkspace(const BorrowedWorkspace&) = delete;
  BorrowedWorkspace& operator=(const BorrowedWorkspace&) = delete;
  Workspace& operator*() const { return *workspace_; }

 private:
  WorkspacePool& pool_;
  std::unique_ptr<Workspace> workspace_;
};

class WordEncoder : public WordSink {
 public:
  WordEncoder(const BpeModel& model, Workspace& workspace, std::vector<TokenId>& out)
      : model_(model), workspace_(workspace), out_(out) {}

  void token(TokenId id) { out_.push_back(id); }

  void word(std::string_view word) override {
    if (!model_.cuts_at_space()) return section(word);
    for (size_t begin = 0; begin < word.size();) {
      const size_t end = section_end(word, begin);
      section(word.substr(begin, end - begin));
      begin = end;
    }
  }

 private:
  void section(std::string_view word) {
    if (word.size() > WordCache::kLongestWord) return model_.encode(word, workspace_.bpe, out_);
    const uint64_t hash = WordCache::hash(word);
    const auto known = workspace_.cache.find(word, hash);
    if (known.data() != nullptr) {
      out_.insert(out_.end(), known.begin(), known.end());
      return;
    }
    const size_t before = out_.size();
    model_.encode(word, workspace_.bpe, out_);
    if (out_.size() > before) workspace_.cache.put(word, hash, std::span(out_).subspan(before));
  }

  const BpeModel& model_;
  Workspace& workspace_;
  std::vector<TokenId>& out_;
};

class BpeTokenizer : public Tokenizer {
 public:
  explicit BpeTokenizer(BpeParts parts);

  std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options) const override;
  std::string decode(std::span<const TokenId> tokens, bool skip_special) const override {
    return detokenizer_.decode(tokens, skip_special);
  }
  std::unique_ptr<StreamingDecoder> streaming_decoder(bool skip_special) const override {
    return detokenizer_.stream(skip_special);
  }

  int64_t vocabulary_size() const override { return static_cast<int64_t>(texts_.size()); }
  std::optional<TokenId> token_id(std::string_view token) const override;
  std::string token_text(TokenId id) const override {
    detokenizer_.require_known(id);
    return texts_[id];
  }
  std::optional<TokenId> bos() const override { return parts_.bos; }
  std::optional<TokenId> eos() const override { return parts_.eos; }
  std::string describe() const override {
    return fmt::format("{}, {} tokens ({})", parts_.kind, vocabulary_size(), parts_.source);
  }

 private:
  void add_tokens();
  void prepare_decoding();
  void encode_part(std::string_view text, bool at_start, const EncodeOptions& options, Workspace& workspace,
                   WordEncoder& words) const;

  BpeParts parts_;  // without data, which is now the model's
  BpeModel model_;
  AddedTokenMatcher raw_matcher_, normalized_matcher_;
  std::vector<std::string> texts_;  // by id
  std::unordered_map<std::string, TokenId> added_ids_;
  std::unordered_map<TokenId, std::string> decoded_spellings_;  // of normalized added tokens, as the reference decodes
  std::vector<bool> special_;                                   // by id
  Detokenizer detokenizer_;
  mutable WorkspacePool workspaces_;
};

BpeTokenizer::BpeTokenizer(BpeParts parts) : parts_(std::move(parts)), model_(std::move(parts_.data), parts_.where) {
  add_tokens();
  prepare_decoding();
  for (const auto* ids : {&parts_.prefix, &parts_.suffix}) {
    for (const TokenId id : *ids) detokenizer_.require_known(id);
  }
  if (parts_.bos) detokenizer_.require_known(*parts_.bos);
  if (parts_.eos) detokenizer_.require_known(*parts_.eos);
}

void BpeTokenizer::add_tokens() {
  texts_ = model_.tokens();
  special_.resize(texts_.size());
  std::vector<AddedToken> raw, normalized;
  for (AddedToken& token : parts_.added_tokens) {
    if (token.content.empty()) continue;  // the reference ignores it
    require(token.id >= 0 && static_cast<size_t>(token.id) < kMaxIds, "{}: the added token \"{}\" has the id {}",
            parts_.where, token.content, token.id);
    if (static_cast<size_t>(token.id) >= texts_.size()) texts_.resize(token.id + 1), special_.resize(token.id + 1);
    std::string& text = texts_[token.id];
    if (!text.empty() && text != token.content) {
      fail("{}: the added token \"{}\" has the id {} of the token \"{}\"", parts_.where, token.content, token.id, text);
    }
    text = token.content;
    special_[token.id] = token.special;
    added_ids_[token.content] = token.id;
    if (token.normalized) {
      std::string storage;
      token.content = std::string(parts_.normalizer.apply(token.content, storage));
      decoded_spellings_[token.id] = token.content;
    }
    (token.normalized ? normalized : raw).push_back(token);
  }
  raw_matcher_ = AddedTokenMatcher(std::move(raw));
  normalized_matcher_ = AddedTokenMatcher(std::move(normalized));
}

void BpeTokenizer::prepare_decoding() {
  detokenizer_ = Detokenizer(parts_.decoding, parts_.source);
  const bool byte_tokens = parts_.decoding.kind != DetokenizerStyle::Kind::byte_level;
  for (size_t id = 0; id < texts_.size(); ++id) {
    const auto other = parts_.decoded_texts.find(static_cast<TokenId>(id));
    const bool byte = byte_tokens && byte_of_fallback_token(texts_[id]);
    const auto role = special_[id] ? Detokenizer::Role::special
                      : byte       ? Detokenizer::Role::byte
                                   : Detokenizer::Role::normal;
    if (other != parts_.decoded_texts.end()) {
      detokenizer_.append_with_text(other->second, Detokenizer::Role::normal);
    } else {
      const auto normalized = decoded_spellings_.find(static_cast<TokenId>(id));
      detokenizer_.append(normalized != decoded_spellings_.end() ? normalized->second : texts_[id], role);
    }
  }
}

std::optional<TokenId> BpeTokenizer::token_id(std::string_view token) const {
  const auto found = added_ids_.find(std::string(token));
  return found != added_ids_.end() ? found->second : model_.find(token);
}

void BpeTokenizer::encode_part(std::string_view text, bool at_start, const EncodeOptions& options, Workspace& workspace,
                               WordEncoder& words) const {
  std::string storage;
  const std::string_view normalized = parts_.normalizer.apply(text, storage);
  workspace.inner_parts.clear();
  normalized_matcher_.split(normalized, options.parse_special_tokens, workspace.inner_parts);
  for (const auto& [piece, token] : workspace.inner_parts) {
    if (token >= 0) {
      words.token(token);
    } else {
      parts_.pre_tokenizer.split(piece, at_start && piece.data() == normalized.data(), workspace.regex, words);
    }
  }
}

std::vector<TokenId> BpeTokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  require_utf8(text);
  const BorrowedWorkspace borrowed(workspaces_);
  Workspace& workspace = *borrowed;
  std::vector<TokenId> out;
  out.reserve(text.size() / 4 + 16);
  WordEncoder words(model_, workspace, out);
  if (options.add_special_tokens) out = parts_.prefix;
  workspace.parts.clear();
  raw_matcher_.split(text, options.parse_special_tokens, workspace.parts);
  for (const auto& [piece, token] : workspace.parts) {
    if (token >= 0) {
      out.push_back(token);
    } else {
      encode_part(piece, piece.data() == text.data(), options, workspace, words);
    }
  }
  if (options.add_special_tokens) out.insert(out.end(), parts_.suffix.begin(), parts_.suffix.end());
  return out;
}

}  // namespace

std::unique_ptr<Tokenizer> make_bpe_tokenizer(BpeParts parts) {
  for (const auto& [token, id] : parts.data.vocabulary) {
    require(id >= 0 && static_cast<size_t>(id) < kMaxIds, "{}: token \"{}\" has the id {}", parts.where, token, id);
  }
  return std::make_unique<BpeTokenizer>(std::move(parts));
}

}  // namespace cepe
