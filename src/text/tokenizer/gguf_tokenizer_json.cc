// A GGUF file's byte-level BPE written as the files that Hugging Face's libraries read. The components are those of the
// models' own tokenizer.json; tokenizer_json.cc reads all of them back.
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "text/tokenizer/gguf_recipe.h"
#include "text/tokenizer/pretokenizer.h"

namespace cepe {
namespace {

using nlohmann::json;

json byte_level(bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

json pre_tokenizer(const GgufRecipe& recipe) {
  json stages = json::array();
  if (recipe.digits) stages.push_back({{"type", "Digits"}, {"individual_digits", true}});
  // GPT-2's pattern is ByteLevel's own.
  const bool own = recipe.patterns.size() == 1 && recipe.patterns[0] == kGpt2Pattern;
  for (const std::string_view pattern : recipe.patterns) {
    if (own) break;
    stages.push_back(
        {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}});
  }
  stages.push_back(byte_level(own));
  if (stages.size() == 1) return stages[0];
  return {{"type", "Sequence"}, {"pretokenizers", std::move(stages)}};
}

json added_tokens(const GgufVocabulary& vocabulary) {
  json out = json::array();
  for (size_t id = 0; id < vocabulary.token_types.size(); ++id) {
    const int32_t type = vocabulary.token_types[id];
    if (!is_added_token(type)) continue;
    out.push_back({{"id", id},
                   {"content", vocabulary.tokens[id]},
                   {"single_word", false},
                   {"lstrip", false},
                   {"rstrip", false},
                   {"normalized", false},
                   {"special", type != kUserDefined}});
  }
  return out;
}

// Null where nothing is put around a text.
json post_processor(const GgufVocabulary& vocabulary, const GgufRecipe& recipe) {
  const GgufEnds ends = gguf_ends(vocabulary, recipe);
  if (ends.prefix.empty() && ends.suffix.empty()) return nullptr;
  json special = json::object(), pair = json::array(), single;
  const auto add = [&](const std::vector<TokenId>& ids, int part) {
    for (const TokenId id : ids) {
      const std::string& text = vocabulary.tokens[id];
      special[text] = {{"id", text}, {"ids", json::array({id})}, {"tokens", json::array({text})}};
      pair.push_back({{"SpecialToken", {{"id", text}, {"type_id", part}}}});
    }
  };
  for (const int part : {0, 1}) {
    add(ends.prefix, part);
    pair.push_back({{"Sequence", {{"id", part == 0 ? "A" : "B"}, {"type_id", part}}}});
    add(ends.suffix, part);
    if (part == 0) single = pair;
  }
  return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", special}};
}

json model(const GgufVocabulary& vocabulary, const GgufRecipe& recipe) {
  json words = json::object();
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) words[vocabulary.tokens[id]] = id;
  require(words.size() == vocabulary.tokens.size(), "{}: the vocabulary names {} of its tokens twice", vocabulary.where,
          vocabulary.tokens.size() - words.size());
  json out = {{"type", "BPE"},
              {"dropout", nullptr},
              {"unk_token", nullptr},
              {"continuing_subword_prefix", nullptr},
              {"end_of_word_suffix", nullptr},
              {"fuse_unk", false},
              {"byte_fallback", false},
              {"vocab", std::move(words)},
              {"merges", vocabulary.merges}};
  if (recipe.ignore_merges) out["ignore_merges"] = true;  // unknown to the library's versions before 0.20
  return out;
}

json tokenizer_config(const GgufVocabulary& vocabulary, const HfTokenizerSettings& settings) {
  json out = {{"tokenizer_class", "PreTrainedTokenizerFast"}, {"clean_up_tokenization_spaces", false}};
  const auto name = [&](const char* key, const std::optional<TokenId>& id) {
    if (!id) return;
    require(*id >= 0 && static_cast<size_t>(*id) < vocabulary.tokens.size(),
            "{}: the {} has the id {}, outside the vocabulary of {}", vocabulary.where, key, *id,
            vocabulary.tokens.size());
    out[key] = vocabulary.tokens[*id];
  };
  name("bos_token", vocabulary.bos);
  name("eos_token", vocabulary.eos);
  name("pad_token", settings.pad);
  if (settings.model_max_length > 0) out["model_max_length"] = settings.model_max_length;
  if (!settings.chat_template.empty()) out["chat_template"] = settings.chat_template;
  return out;
}

}  // namespace

HfTokenizerFiles hf_tokenizer_files(const GgufVocabulary& vocabulary, const HfTokenizerSettings& settings) {
  require(vocabulary.model == "gpt2",
          "{}: the vocabulary is of the kind \"{}\"; only byte-level BPE (gpt2) can be written as a tokenizer.json",
          vocabulary.where, vocabulary.model);
  check_gguf_vocabulary(vocabulary);
  const GgufRecipe recipe = gguf_recipe(vocabulary.pre, vocabulary.where);
  json decoder = byte_level(true);
  decoder["add_prefix_space"] = true;
  const json tokenizer = {{"version", "1.0"},
                          {"truncation", nullptr},
                          {"padding", nullptr},
                          {"added_tokens", added_tokens(vocabulary)},
                          {"normalizer", recipe.nfc ? json{{"type", "NFC"}} : json()},
                          {"pre_tokenizer", pre_tokenizer(recipe)},
                          {"post_processor", post_processor(vocabulary, recipe)},
                          {"decoder", std::move(decoder)},
                          {"model", model(vocabulary, recipe)}};
  return {tokenizer.dump(1) + "\n", tokenizer_config(vocabulary, settings).dump(2) + "\n"};
}

}  // namespace cepe
