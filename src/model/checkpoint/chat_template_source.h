// Where a model's chat template is, and the special tokens that it may name.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace cepe {

class GgufFile;
struct HfDirectory;

struct ChatTemplateSource {
  std::string text;  // Jinja source, empty where the model has none
  std::string file;  // that holds it, for messages
  // By the name that templates use: "pad_token", "image_token".
  std::map<std::string, std::string> special_tokens;
  std::vector<std::string> notes;  // what a user should know: templates that cannot be chosen from
};

// tokenizer.chat_template, and the tokens whose ids the file names.
ChatTemplateSource chat_template_of(const GgufFile& file);

// As transformers: chat_template.jinja, else "chat_template" of tokenizer_config.json, else that of chat_template.json.
// Of several named templates (a mapping, or a list of {name, template}) the one called "default". Error where a
// template is no text.
ChatTemplateSource chat_template_of(const HfDirectory& directory);

// The template of a model of any kind, without its weights being read. `base` as in OpenOptions. Empty where there is
// no such model: opening it says so.
ChatTemplateSource find_chat_template(const std::filesystem::path& model,
                                      const std::optional<std::filesystem::path>& base);

}  // namespace cepe
