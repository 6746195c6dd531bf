#include "text/tokenizer/sentencepiece_tokenizer.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <functional>
#include <map>
#include <unordered_map>

#include "base/error.h"
#include "base/file.h"
#include "text/tokenizer/added_tokens.h"
#include "text/tokenizer/bpe_tokenizer.h"
#include "text/tokenizer/hf_special_tokens.h"
#include "text/tokenizer/sentencepiece_model.h"
#include "text/utf8.h"

namespace cepe {
namespace {

using Model = SentencePieceModel;

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581 stands for a space in pieces
constexpr TokenId kMaxIds = 1 << 22;                 // bounds what a hostile file can allocate

// What is put before a text.
struct Prefix {
  PrependScheme scheme = PrependScheme::always;  // before each stretch between special tokens, or the first alone
  bool unless_there = false;                     // no second space before a text that begins with one
};

struct Source {
  std::string serialized;                // a ModelProto
  std::vector<AddedToken> added_tokens;  // beyond the model's own pieces
  std::optional<std::string> bos, eos;   // none: the model's own
  bool add_bos = true, add_eos = false;
  Prefix prefix;
  // As transformers' LlamaTokenizer, which keeps the pieces alone: whatever the model says, the prefix is Source's, and
  // decoding is that of a tokenizer.json.
  bool llama_tokenizer = false;
  std::string name, where;  // for describe(), for messages
};

// What both implementations below are made of: the pieces, special tokens, and how to decode.
struct Vocabulary {
  Model model;
  std::vector<AddedToken> added_tokens;  // with the model's own control pieces
  std::vector<TokenId> prefix, suffix;
  std::optional<TokenId> bos, eos;
  Prefix text_prefix;
  DetokenizerStyle decoding;
  std::unordered_map<TokenId, std::string> decoded_texts;
  std::string name, where;
};

using Processor = std::unique_ptr<sentencepiece::SentencePieceProcessor>;

// libsentencepiece on whole stretches of text: for models that normalize, unigram models, and other rare kinds.
class LibraryTokenizer : public Tokenizer {
 public:
  // bare: the same without a space before a text; null where none is needed.
  LibraryTokenizer(Vocabulary vocabulary, Processor processor, Processor bare);

  std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options) const override;
  std::string decode(std::span<const TokenId> tokens, bool skip_special) const override {
    return detokenizer_.decode(tokens, skip_special);
  }
  std::unique_ptr<StreamingDecoder> streaming_decoder(bool skip_special) const override {
    return detokenizer_.stream(skip_special);
  }
  int64_t vocabulary_size() const override { return static_cast<int64_t>(spellings_.size()); }
  std::optional<TokenId> token_id(std::string_view token) const override {
    const auto found = ids_.find(std::string(token));
    if (found == ids_.end()) return std::nullopt;
    return found->second;
  }
  std::string token_text(TokenId id) const override {
    detokenizer_.require_known(id);
    return spellings_[id];
  }
  std::optional<TokenId> bos() const override { return vocabulary_.bos; }
  std::optional<TokenId> eos() const override { return vocabulary_.eos; }
  std::string describe() const override {
    return fmt::format("SentencePiece, {} tokens ({})", vocabulary_size(), vocabulary_.name);
  }

 private:
  const sentencepiece::SentencePieceProcessor& processor_for(std::string_view piece, bool at_start) const;
  Vocabulary vocabulary_;
  Processor processor_, bare_;
  AddedTokenMatcher matcher_;
  std::vector<std::string> spellings_;  // by id
  std::unordered_map<std::string, TokenId> ids_;
  Detokenizer detokenizer_;
};

LibraryTokenizer::LibraryTokenizer(Vocabulary vocabulary, Processor processor, Processor bare)
    : vocabulary_(std::move(vocabulary)),
      processor_(std::move(processor)),
      bare_(std::move(bare)),
      matcher_(vocabulary_.added_tokens) {
  std::vector<Detokenizer::Role> roles;
  for (const auto& piece : vocabulary_.model.pieces) {
    spellings_.push_back(piece.text);
    roles.push_back(piece.type == Model::byte ? Detokenizer::Role::byte : Detokenizer::Role::normal);
  }
  for (const AddedToken& token : vocabulary_.added_tokens) {
    if (static_cast<size_t>(token.id) >= spellings_.size()) spellings_.resize(token.id + 1);
    spellings_[token.id] = token.content;
    roles.resize(spellings_.size());
    if (token.special) roles[token.id] = Detokenizer::Role::special;
  }
  detokenizer_ = Detokenizer(vocabulary_.decoding, vocabulary_.name);
  for (size_t id = 0; id < spellings_.size(); ++id) {
    ids_.emplace(spellings_[id], static_cast<TokenId>(id));
    const auto other = vocabulary_.decoded_texts.find(static_cast<TokenId>(id));
    if (other != vocabulary_.decoded_texts.end()) {
      detokenizer_.append_with_text(other->second, Detokenizer::Role::normal);
    } else {
      detokenizer_.append(spellings_[id], roles[id]);
    }
  }
}

const sentencepiece::SentencePieceProcessor& LibraryTokenizer::processor_for(std::string_view piece,
                                                                             bool at_start) const {
  const auto& [scheme, unless_there] = vocabulary_.text_prefix;
  bool bare = scheme == PrependScheme::never || (scheme == PrependScheme::first && !at_start);
  // A model that removes spaces finds none to begin with.
  const bool begins_with_space = piece.starts_with(' ') || piece.starts_with(kSpace);
  bare = bare || (unless_there && begins_with_space && !vocabulary_.model.remove_extra);
  return bare && bare_ ? *bare_ : *processor_;
}

std::vector<TokenId> LibraryTokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  require_utf8(text);
  std::vector<TokenId> out;
  std::vector<TextPart> parts;
  matcher_.split(text, options.parse_special_tokens, parts);
  if (options.add_special_tokens) out = vocabulary_.prefix;
  std::vector<int> ids;
  for (const auto& [piece, token] : parts) {
    if (token >= 0) {
      out.push_back(token);
      continue;
    }
    const auto status = processor_for(piece, piece.data() == text.data()).Encode({piece.data(), piece.size()}, &ids);
    require(status.ok(), "encoding with {} failed: {}", describe(), status.ToString());
    out.insert(out.end(), ids.begin(), ids.end());
  }
  if (options.add_special_tokens) out.insert(out.end(), vocabulary_.suffix.begin(), vocabulary_.suffix.end());
  return out;
}

// The model as BPE merges: SentencePiece joins the neighbours whose union is the best-scored piece, so each way to
// cut a piece into two pieces is a merge of that piece's rank. Only where that is the whole story (the Llama and
// Mistral families) does this stand in for the library, a hundred times faster.
bool is_plain_bpe(const Model& model) {
  if (!model.bpe || !model.byte_fallback || model.space_as_suffix) return false;
  if (model.normalizes || model.remove_extra || !model.escape_spaces) return false;
  std::unordered_map<std::string_view, int> types;
  for (const auto& piece : model.pieces) types.emplace(piece.text, piece.type);
  int bytes = 0;
  for (const auto& piece : model.pieces) {
    bytes += piece.type == Model::byte;
    if (piece.type == Model::user_defined || piece.type == Model::unused || piece.text.empty()) return false;
    if (find_invalid_utf8(piece.text) != std::string_view::npos) return false;
    for (size_t at = 0; at < piece.text.size();) {
      const size_t size = code_point_at(piece.text, at).size;
      if (piece.type != Model::normal && size == piece.text.size()) return false;
      const auto character = types.find(std::string_view(piece.text).substr(at, size));
      if (piece.type == Model::normal && (character == types.end() || character->second != Model::normal)) return false;
      at += size;
    }
  }
  return bytes == 256;
}

BpeData merges_of(const Model& model) {
  BpeData data;
  data.byte_level = false;
  data.byte_fallback = true;
  std::map<float, int32_t, std::greater<>> ranks;
  std::unordered_map<std::string_view, int> types;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const auto& piece = model.pieces[id];
    data.vocabulary.emplace_back(piece.text, static_cast<TokenId>(id));
    types.emplace(piece.text, piece.type);
    ranks.emplace(piece.score, 0);
  }
  int32_t next = 0;
  for (auto& [score, rank] : ranks) rank = next++;
  const auto is_normal = [&](std::string_view text) {
    const auto found = types.find(text);
    return found != types.end() && found->second == Model::normal;
  };
  for (const auto& piece : model.pieces) {
    if (piece.type != Model::normal) continue;
    const std::string_view text = piece.text;
    for (size_t at = code_point_at(text, 0).size; at < text.size(); at += code_point_at(text, at).size) {
      if (!is_normal(text.substr(0, at)) || !is_normal(text.substr(at))) continue;
      data.merges.emplace_back(text.substr(0, at), text.substr(at));
      data.ranks.push_back(ranks[piece.score]);
    }
  }
  return data;
}

std::unique_ptr<Tokenizer> make_plain_bpe(Vocabulary vocabulary) {
  BpeParts parts;
  parts.data = merges_of(vocabulary.model);
  const auto& [scheme, unless_there] = vocabulary.text_prefix;
  if (vocabulary.model.dummy_prefix && (unless_there || scheme != PrependScheme::always)) {
    parts.pre_tokenizer.add_metaspace({std::string(kSpace), scheme, false});
  } else {
    if (vocabulary.model.dummy_prefix) parts.normalizer.add_prepend(std::string(kSpace));
    parts.normalizer.add_replace(" ", std::string(kSpace));
  }
  parts.added_tokens = std::move(vocabulary.added_tokens);
  parts.prefix = std::move(vocabulary.prefix);
  parts.suffix = std::move(vocabulary.suffix);
  parts.bos = vocabulary.bos;
  parts.eos = vocabulary.eos;
  parts.decoding = std::move(vocabulary.decoding);
  parts.decoded_texts = std::move(vocabulary.decoded_texts);
  parts.kind = "SentencePiece BPE";
  parts.source = std::move(vocabulary.name);
  parts.where = std::move(vocabulary.where);
  return make_bpe_tokenizer(std::move(parts));
}

void add_tokens(std::vector<AddedToken> added, Vocabulary& vocabulary) {
  std::unordered_map<std::string_view, TokenId> ids;
  const auto& pieces = vocabulary.model.pieces;
  for (size_t id = 0; id < pieces.size(); ++id) {
    ids.emplace(pieces[id].text, static_cast<TokenId>(id));
    if (pieces[id].type == Model::control || pieces[id].type == Model::unknown) {
      vocabulary.added_tokens.push_back({.id = static_cast<TokenId>(id), .content = pieces[id].text, .special = true});
    }
  }
  for (AddedToken& token : added) {
    const auto known = ids.find(token.content);
    if (known != ids.end() && known->second == token.id) continue;  // files list the model's own once more
    if (known != ids.end() || token.id < static_cast<TokenId>(pieces.size()) || token.id >= kMaxIds) {
      fail("{}: the added token \"{}\" has the id {}, which does not fit the model's {} pieces", vocabulary.where,
           token.content, token.id, pieces.size());
    }
    vocabulary.added_tokens.push_back(std::move(token));
  }
}

std::optional<TokenId> find_special(const std::optional<std::string>& name, int own, const Vocabulary& vocabulary) {
  if (!name) return own >= 0 ? std::optional<TokenId>(own) : std::nullopt;
  for (const AddedToken& token : vocabulary.added_tokens) {
    if (token.content == *name) return token.id;
  }
  for (size_t id = 0; id < vocabulary.model.pieces.size(); ++id) {
    if (vocabulary.model.pieces[id].text == *name) return static_cast<TokenId>(id);
  }
  fail("{}: the special token \"{}\" is not in the vocabulary", vocabulary.where, *name);
}

Processor load_processor(const std::string& serialized, const std::string& where) {
  auto processor = std::make_unique<sentencepiece::SentencePieceProcessor>();
  const auto status = processor->LoadFromSerializedProto(serialized);
  require(status.ok(), "{}: not a SentencePiece model: {}", where, status.ToString());
  return processor;
}

void set_decoding(const sentencepiece::SentencePieceProcessor& processor, bool llama_tokenizer,
                  Vocabulary& vocabulary) {
  const Model& model = vocabulary.model;
  if (llama_tokenizer) {
    vocabulary.decoding = {DetokenizerStyle::Kind::metaspace_fused, std::string(kSpace),
                           vocabulary.text_prefix.scheme != PrependScheme::never};
    return;
  }
  vocabulary.decoding = {DetokenizerStyle::Kind::sentencepiece, std::string(kSpace),
                         model.dummy_prefix || model.remove_extra, model.remove_extra};
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    if (model.pieces[id].type != Model::unknown) continue;
    std::string text;
    require(processor.Decode(std::vector<int>{static_cast<int>(id)}, &text).ok(), "{}: cannot decode token {}",
            vocabulary.where, id);
    vocabulary.decoded_texts.emplace(static_cast<TokenId>(id), std::move(text));
  }
}

std::unique_ptr<Tokenizer> make_tokenizer(Source source) {
  Processor processor = load_processor(source.serialized, source.where);
  Vocabulary vocabulary;
  vocabulary.model = parse_sentencepiece_model(source.serialized, source.where);
  vocabulary.name = std::move(source.name);
  vocabulary.where = std::move(source.where);
  vocabulary.text_prefix = source.prefix;
  const bool llama_tokenizer = source.llama_tokenizer && is_plain_bpe(vocabulary.model);
  if (llama_tokenizer) vocabulary.model.dummy_prefix = true;
  add_tokens(std::move(source.added_tokens), vocabulary);
  vocabulary.bos = find_special(source.bos, processor->bos_id(), vocabulary);
  vocabulary.eos = find_special(source.eos, processor->eos_id(), vocabulary);
  if (source.add_bos && vocabulary.bos) vocabulary.prefix.push_back(*vocabulary.bos);
  if (source.add_eos && vocabulary.eos) vocabulary.suffix.push_back(*vocabulary.eos);
  set_decoding(*processor, llama_tokenizer, vocabulary);
  if (is_plain_bpe(vocabulary.model)) return make_plain_bpe(std::move(vocabulary));
  const auto& [scheme, unless_there] = vocabulary.text_prefix;
  Processor bare;
  if (scheme != PrependScheme::always || unless_there) {
    bare = load_processor(without_dummy_prefix(std::move(source.serialized)), vocabulary.where);
  }
  return std::make_unique<LibraryTokenizer>(std::move(vocabulary), std::move(processor), std::move(bare));
}

// As transformers 5 reads the files beside a tokenizer.model. Its LlamaTokenizer is not "legacy" where nothing is said;
// without that class the model's own settings hold, "legacy" where nothing is said, and "add_prefix_space" is not read.
Prefix text_prefix(const HfSpecialTokens& special, bool llama_tokenizer) {
  const bool legacy = special.legacy.value_or(!llama_tokenizer);
  if (llama_tokenizer && !special.add_prefix_space.value_or(true)) return {PrependScheme::never, true};
  return {legacy ? PrependScheme::always : PrependScheme::first, llama_tokenizer || !legacy};
}

}  // namespace

std::unique_ptr<Tokenizer> load_sentencepiece(const std::filesystem::path& path) {
  HfSpecialTokens special = read_hf_special_tokens(path.parent_path());
  Source source;
  source.serialized = read_file(path);
  source.added_tokens = std::move(special.added);
  source.bos = std::move(special.bos);
  source.eos = std::move(special.eos);
  source.add_bos = special.add_bos.value_or(true);
  source.add_eos = special.add_eos.value_or(false);
  source.llama_tokenizer =
      special.tokenizer_class == "LlamaTokenizer" || special.tokenizer_class == "LlamaTokenizerFast";
  source.prefix = text_prefix(special, source.llama_tokenizer);
  source.name = path.filename().string();
  source.where = path.string();
  return make_tokenizer(std::move(source));
}

std::unique_ptr<Tokenizer> make_gguf_sentencepiece(GgufVocabulary vocabulary) {
  const auto text = [&](const std::optional<TokenId>& id) {
    return id ? std::optional<std::string>(vocabulary.tokens[*id]) : std::nullopt;
  };
  Source source;
  source.serialized = sentencepiece_model(vocabulary);
  source.bos = text(vocabulary.bos);
  source.eos = text(vocabulary.eos);
  source.add_bos = vocabulary.add_bos.value_or(true);
  source.add_eos = vocabulary.add_eos.value_or(false);
  source.name = "GGUF, llama";
  source.where = vocabulary.where;
  return make_tokenizer(std::move(source));
}

}  // namespace cepe
