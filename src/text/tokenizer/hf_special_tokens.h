// What the files beside a tokenizer.json or tokenizer.model say about its special tokens.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "text/tokenizer/added_tokens.h"

namespace cepe {

struct HfSpecialTokens {
  std::optional<std::string> bos, eos;           // the tokens' texts
  std::optional<bool> add_bos, add_eos;          // add_bos_token, add_eos_token; null is false, as in transformers
  std::map<std::string, std::string> named;      // texts of all tokens that have a name: "pad_token", "image_token"
  std::string tokenizer_class;                   // empty where absent
  std::optional<bool> legacy, add_prefix_space;  // of a tokenizer that is made from a tokenizer.model
  std::vector<AddedToken> added;                 // added_tokens_decoder, added_tokens.json
};

// Reads tokenizer_config.json, special_tokens_map.json and added_tokens.json in `directory`; each may be absent.
HfSpecialTokens read_hf_special_tokens(const std::filesystem::path& directory);

}  // namespace cepe
