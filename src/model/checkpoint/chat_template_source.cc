#include "model/checkpoint/chat_template_source.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "io/gguf.h"
#include "io/hf_directory.h"
#include "model/checkpoint/find_model.h"
#include "text/tokenizer/hf_special_tokens.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const std::string& template_text(const json& value, const std::string& file) {
  require(value.is_string(), "{}: expected a chat template to be a text, found a JSON {}", file, value.type_name());
  return value.get_ref<const std::string&>();
}

// The text of "chat_template": a template, a mapping of names to templates, or a list of {name, template}.
void choose_template(const json& value, const std::string& file, ChatTemplateSource& source) {
  source.file = file;
  if (value.is_null()) return;
  if (!value.is_array() && !value.is_object()) {
    source.text = template_text(value, file);
    return;
  }
  std::string names;
  const auto consider = [&](const std::string& name, const json& text) {
    if (name == "default") source.text = template_text(text, file);
    names += (names.empty() ? "" : ", ") + name;
  };
  if (value.is_object()) {
    for (const auto& [name, text] : value.items()) consider(name, text);
  } else {
    for (const json& entry : value) {
      require(entry.is_object() && entry.contains("name") && entry["name"].is_string() && entry.contains("template"),
              "{}: expected the chat templates to be a list of objects with \"name\" and \"template\"", file);
      consider(entry["name"].get<std::string>(), entry["template"]);
    }
  }
  if (!names.empty() && source.text.empty()) {
    source.notes.push_back(fmt::format("of the chat templates {} none is called default: none is used", names));
  }
}

bool is_trained_parts(const json& config) {
  return config.is_object() && config.contains("cepe_format") && config["cepe_format"] == "trained-parts";
}

bool is_there(const fs::path& path) {
  std::error_code ignored;  // reading says what is wrong with what is there
  return fs::status(path, ignored).type() != fs::file_type::not_found;
}

}  // namespace

ChatTemplateSource chat_template_of(const GgufFile& file) {
  ChatTemplateSource source;
  source.file = file.path().string();
  if (file.value("tokenizer.chat_template")) source.text = file.string("tokenizer.chat_template");
  if (!file.value("tokenizer.ggml.tokens")) return source;
  const std::vector<std::string>& tokens = file.strings("tokenizer.ggml.tokens");
  constexpr std::pair<const char*, const char*> kNames[] = {
      {"bos_token", "bos"},       {"eos_token", "eos"},   {"unk_token", "unknown"}, {"pad_token", "padding"},
      {"sep_token", "seperator"}, {"mask_token", "mask"}, {"cls_token", "cls"}};
  for (const auto& [name, word] : kNames) {
    const std::string key = fmt::format("tokenizer.ggml.{}_token_id", word);
    if (!file.value(key)) continue;
    // Files name padding tokens that they do not have; a template that needs one finds it undefined.
    const int64_t id = file.integer(key);
    if (id >= 0 && id < static_cast<int64_t>(tokens.size()))
      source.special_tokens[name] = tokens[static_cast<size_t>(id)];
  }
  return source;
}

ChatTemplateSource chat_template_of(const HfDirectory& directory) {
  ChatTemplateSource source;
  source.special_tokens = read_hf_special_tokens(directory.path).named;
  const fs::path jinja = directory.path / "chat_template.jinja", old = directory.path / "chat_template.json";
  if (is_there(jinja)) {
    source.text = read_file(jinja);
    source.file = jinja.string();
  } else if (directory.tokenizer_config.contains("chat_template")) {
    choose_template(directory.tokenizer_config["chat_template"], (directory.path / "tokenizer_config.json").string(),
                    source);
  } else if (is_there(old)) {
    const json value = read_json(old);
    require(value.is_object() && value.contains("chat_template"), "{}: expected an object with \"chat_template\"",
            old.string());
    choose_template(value["chat_template"], old.string(), source);
  }
  return source;
}

ChatTemplateSource find_chat_template(const fs::path& model, const std::optional<fs::path>& base) {
  std::error_code ignored;
  if (!fs::is_directory(model, ignored)) {
    if (!fs::is_regular_file(model, ignored) || !is_gguf_file(model)) return {};
    return chat_template_of(GgufFile(model));
  }
  if (!fs::is_regular_file(model / "config.json", ignored)) return {};
  const json config = read_json(model / "config.json");
  if (!is_trained_parts(config)) return chat_template_of(open_hf_directory(model, false));
  const auto name = config.find("base_model_name_or_path");
  if (name == config.end() || !name->is_string()) return {};
  const fs::path found = resolve_base(name->get<std::string>(), base);
  const fs::path inner = found / "config.json";
  // Parts are no base; opening the model says so.
  if (fs::is_regular_file(inner, ignored) && is_trained_parts(read_json(inner))) return {};
  return find_chat_template(found, std::nullopt);
}

}  // namespace cepe
