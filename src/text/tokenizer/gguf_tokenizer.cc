// The tokenizer of a GGUF file. The file names its pre-tokenizer by a word; what the words mean is listed here,
// each as the model's own tokenizer.json says it.
#include <algorithm>
#include <array>

#include "base/error.h"
#include "text/tokenizer/bpe_tokenizer.h"
#include "text/tokenizer/gguf_recipe.h"
#include "text/tokenizer/sentencepiece_tokenizer.h"
#include "text/utf8.h"

namespace cepe {
namespace {

constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|)"
    R"(\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kTekkenPattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|)"
    R"(\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

struct PreTokenizerRecipe {
  std::string_view name;  // tokenizer.ggml.pre
  bool digits;            // every digit by itself, before the pattern
  std::string_view pattern;
  bool nfc;
  bool ignore_merges;
  bool add_bos;  // where the file does not say
};

constexpr std::array<PreTokenizerRecipe, 17> kRecipes = {{
    {"gpt-2", false, kGpt2Pattern, false, false, false},
    {"phi-2", false, kGpt2Pattern, false, false, false},
    {"olmo", false, kGpt2Pattern, false, false, false},
    {"mpt", false, kGpt2Pattern, false, false, false},
    {"smollm", true, kGpt2Pattern, false, false, false},
    {"starcoder", true, kGpt2Pattern, false, false, false},
    {"refact", true, kGpt2Pattern, false, false, false},
    {"codeshell", true, kGpt2Pattern, false, false, false},
    {"llama-bpe", false, kLlama3Pattern, false, true, true},
    {"llama3", false, kLlama3Pattern, false, true, true},
    {"llama-v3", false, kLlama3Pattern, false, true, true},
    {"smaug-bpe", false, kLlama3Pattern, false, false, false},
    {"dbrx", false, kLlama3Pattern, false, false, false},
    {"qwen2", false, kQwen2Pattern, true, false, false},
    {"deepseek-r1-qwen", false, kQwen2Pattern, true, false, true},
    {"stablelm2", false, kQwen2Pattern, true, false, false},
    {"tekken", false, kTekkenPattern, false, true, true},
}};

// Files written before `pre` existed, and those whose writer did not know it. No model's own tokenizer is this;
// llama.cpp cuts them so, and the file's author has seen no other result.
constexpr std::array<std::string_view, 4> kDefaultPatterns = {
    R"([\p{P}\$\+<=>\^~\|]+)", R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S))", R"(\p{N}+)",
    R"([0-9][0-9][0-9])"};

std::pair<std::string, std::string> cut_merge(const std::string& merge, size_t rank, const std::string& where) {
  const size_t space = merge.find(' ', 1);
  if (space == std::string::npos || space + 1 == merge.size()) {
    fail("{}: merge {} of the vocabulary is \"{}\", expected two tokens with a space between", where, rank, merge);
  }
  return {merge.substr(0, space), merge.substr(space + 1)};
}

std::unique_ptr<Tokenizer> make_byte_level(GgufVocabulary vocabulary) {
  BpeParts parts;
  parts.where = vocabulary.where;
  parts.source = fmt::format("GGUF, {}", vocabulary.pre.empty() ? "default" : vocabulary.pre);
  const GgufRecipe recipe = gguf_recipe(vocabulary.pre, parts.where);
  if (recipe.digits) parts.pre_tokenizer.add_digits(true);
  for (const std::string_view pattern : recipe.patterns) {
    parts.pre_tokenizer.add_split(Regex::from_oniguruma(pattern, parts.where), SplitBehavior::isolated, false);
  }
  if (recipe.nfc) parts.normalizer.add_unicode_form(Normalizer::Form::nfc);
  parts.data.ignore_merges = recipe.ignore_merges;
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const int32_t type = vocabulary.token_types.empty() ? int32_t{kNormal} : vocabulary.token_types[id];
    const auto token = static_cast<TokenId>(id);
    if (is_added_token(type)) {
      parts.added_tokens.push_back({.id = token, .content = vocabulary.tokens[id], .special = type != kUserDefined});
    }
    parts.data.vocabulary.emplace_back(std::move(vocabulary.tokens[id]), token);
  }
  for (size_t rank = 0; rank < vocabulary.merges.size(); ++rank) {
    parts.data.merges.push_back(cut_merge(vocabulary.merges[rank], rank, vocabulary.where));
  }
  parts.bos = vocabulary.bos;
  parts.eos = vocabulary.eos;
  GgufEnds ends = gguf_ends(vocabulary, recipe);
  parts.prefix = std::move(ends.prefix);
  parts.suffix = std::move(ends.suffix);
  return make_bpe_tokenizer(std::move(parts));
}

}  // namespace

GgufRecipe gguf_recipe(const std::string& pre, const std::string& where) {
  if (pre.empty() || pre == "default") return {.patterns = {kDefaultPatterns.begin(), kDefaultPatterns.end()}};
  const auto* found = std::find_if(kRecipes.begin(), kRecipes.end(), [&](const auto& r) { return r.name == pre; });
  if (found == kRecipes.end()) {
    std::string known = "default";
    for (const auto& r : kRecipes) known += fmt::format(", {}", r.name);
    fail("{}: the pre-tokenizer \"{}\" is not supported; supported are {}", where, pre, known);
  }
  return {found->digits, {found->pattern}, found->nfc, found->ignore_merges, found->add_bos};
}

void check_gguf_vocabulary(const GgufVocabulary& vocabulary) {
  const std::string& where = vocabulary.where;
  require(!vocabulary.tokens.empty(), "{}: the vocabulary has no tokens", where);
  require(vocabulary.token_types.empty() || vocabulary.token_types.size() == vocabulary.tokens.size(),
          "{}: the vocabulary has {} tokens but {} token types", where, vocabulary.tokens.size(),
          vocabulary.token_types.size());
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const size_t at = find_invalid_utf8(vocabulary.tokens[id]);
    require(at == std::string_view::npos, "{}: token {} of the vocabulary is not valid UTF-8 at byte {}", where, id,
            at);
  }
  const auto check = [&](const char* name, const std::optional<TokenId>& id) {
    require(!id || (*id >= 0 && static_cast<size_t>(*id) < vocabulary.tokens.size()),
            "{}: the {} token has the id {}, outside the vocabulary of {}", where, name, id.value_or(0),
            vocabulary.tokens.size());
  };
  check("begin", vocabulary.bos);
  check("end", vocabulary.eos);
}

GgufEnds gguf_ends(const GgufVocabulary& vocabulary, const GgufRecipe& recipe) {
  GgufEnds ends;
  if (vocabulary.add_bos.value_or(recipe.add_bos) && vocabulary.bos) ends.prefix.push_back(*vocabulary.bos);
  if (vocabulary.add_eos.value_or(false) && vocabulary.eos) ends.suffix.push_back(*vocabulary.eos);
  return ends;
}

std::unique_ptr<Tokenizer> make_gguf_tokenizer(GgufVocabulary vocabulary) {
  check_gguf_vocabulary(vocabulary);
  if (vocabulary.model == "gpt2") return make_byte_level(std::move(vocabulary));
  if (vocabulary.model == "llama") return make_gguf_sentencepiece(std::move(vocabulary));
  fail("{}: the vocabulary is of the kind \"{}\"; supported are gpt2 and llama", vocabulary.where, vocabulary.model);
}

}  // namespace cepe
