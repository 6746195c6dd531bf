#include "text/tokenizer/hf_special_tokens.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "base/file.h"

namespace cepe {
namespace {

using nlohmann::json;

// An empty object when there is no such file.
json read_object(const std::filesystem::path& path) {
  std::error_code none;  // what else keeps the file from being seen, reading it says
  if (std::filesystem::status(path, none).type() == std::filesystem::file_type::not_found) return json::object();
  try {
    json root = json::parse(read_file(path));
    require(root.is_object(), "{}: expected a JSON object", path.string());
    return root;
  } catch (const json::exception& e) {
    fail("{}: not valid JSON: {}", path.string(), e.what());
  }
}

// "text" or {"content": "text"}
std::optional<std::string> token_text(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return std::nullopt;
  const json* value = &*found;
  if (value->is_object() && value->contains("content")) value = &(*value)["content"];
  if (!value->is_string()) return std::nullopt;
  return value->get<std::string>();
}

std::optional<bool> flag(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_boolean()) return std::nullopt;
  return found->get<bool>();
}

// Where null means false.
std::optional<bool> flag_or_null(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_null() ? std::optional<bool>(false) : flag(object, key);
}

// The entries whose names end in "_token", and what "extra_special_tokens" names.
void read_named_tokens(const json& object, std::map<std::string, std::string>& named) {
  for (const auto& [key, value] : object.items()) {
    const auto text = token_text(object, key.c_str());
    if (text && key.ends_with("_token")) named.emplace(key, *text);
  }
  const auto extra = object.find("extra_special_tokens");
  if (extra == object.end() || !extra->is_object()) return;
  for (const auto& [key, value] : extra->items()) {
    if (const auto text = token_text(*extra, key.c_str())) named.emplace(key, *text);
  }
}

TokenId parse_id(const std::string& text, const std::filesystem::path& path) {
  TokenId id = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (error != std::errc() || end != text.data() + text.size() || id < 0) {
    fail("{}: \"{}\" is not a token number", path.string(), text);
  }
  return id;
}

void read_decoder_table(const json& config, const std::filesystem::path& path, std::vector<AddedToken>& added) {
  const auto table = config.find("added_tokens_decoder");
  if (table == config.end() || !table->is_object()) return;
  for (const auto& [number, entry] : table->items()) {
    AddedToken token;
    token.id = parse_id(number, path);
    const auto content = token_text(*table, number.c_str());
    require(content.has_value(), "{}: the added token {} has no \"content\"", path.string(), number);
    token.content = *content;
    token.special = flag(entry, "special").value_or(false);
    token.single_word = flag(entry, "single_word").value_or(false);
    token.lstrip = flag(entry, "lstrip").value_or(false);
    token.rstrip = flag(entry, "rstrip").value_or(false);
    added.push_back(std::move(token));
  }
}

void read_added_tokens(const std::filesystem::path& path, std::vector<AddedToken>& added) {
  const json root = read_object(path);
  for (const auto& [content, number] : root.items()) {
    require(number.is_number_unsigned() && number.get<uint64_t>() <= 0x7FFFFFFF, "{}: \"{}\" has no token number",
            path.string(), content);
    const auto id = number.get<TokenId>();
    const bool known = std::any_of(added.begin(), added.end(), [&](const AddedToken& t) { return t.id == id; });
    if (!known) added.push_back({.id = id, .content = content, .special = true});
  }
}

}  // namespace

HfSpecialTokens read_hf_special_tokens(const std::filesystem::path& directory) {
  HfSpecialTokens result;
  const auto config_path = directory / "tokenizer_config.json";
  const json config = read_object(config_path);
  const json map = read_object(directory / "special_tokens_map.json");
  const auto text = [&](const char* key) {
    auto found = token_text(config, key);
    return found ? found : token_text(map, key);
  };
  result.bos = text("bos_token");
  result.eos = text("eos_token");
  result.add_bos = flag_or_null(config, "add_bos_token");
  result.add_eos = flag_or_null(config, "add_eos_token");
  read_named_tokens(config, result.named);
  read_named_tokens(map, result.named);
  const auto tokenizer_class = config.find("tokenizer_class");
  if (tokenizer_class != config.end() && tokenizer_class->is_string()) result.tokenizer_class = *tokenizer_class;
  result.legacy = flag(config, "legacy");
  result.add_prefix_space = flag(config, "add_prefix_space");
  read_decoder_table(config, config_path, result.added);
  read_added_tokens(directory / "added_tokens.json", result.added);
  return result;
}

}  // namespace cepe
