// Hugging Face tokenizer.json: {"added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder",
// "model"}. Whatever this file does not know is refused by its name; "truncation" and "padding" are ignored.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "text/tokenizer/bpe_tokenizer.h"
#include "text/tokenizer/hf_special_tokens.h"
#include "text/utf8.h"

namespace cepe {
namespace {

using nlohmann::json;

constexpr int kMaxNesting = 8;  // of "Sequence" in "Sequence"

bool is_deeper(const json& value, int levels) {
  if (!value.is_structured()) return false;
  return levels == 0 ||
         std::any_of(value.begin(), value.end(), [&](const json& v) { return is_deeper(v, levels - 1); });
}

// A value for messages. Writing one out takes stack for each level, and a file may have any number of them.
std::string shown(const json& value) {
  return is_deeper(value, kMaxNesting) ? std::string("nested deeply") : value.dump();
}

class Reader {
 public:
  explicit Reader(std::filesystem::path path) : path_(std::move(path)) { parts_.where = path_.string(); }

  BpeParts run() {
    const json root = parse(path_);
    require(root.is_object(), "{}: expected a JSON object", parts_.where);
    read_model(member(root, "model"));
    if (const json* normalizer = optional(root, "normalizer")) read_normalizer(*normalizer, 0);
    if (const json* pre_tokenizer = optional(root, "pre_tokenizer")) read_pre_tokenizer(*pre_tokenizer, 0);
    parts_.data.byte_level = byte_level_;
    parts_.kind = byte_level_ ? "byte-level BPE" : "BPE";
    read_decoder(member(root, "decoder"));
    if (const json* added = optional(root, "added_tokens")) read_added_tokens(*added);
    if (const json* processor = optional(root, "post_processor")) read_post_processor(*processor, 0);
    name_ends();
    parts_.source = "tokenizer.json";
    return std::move(parts_);
  }

 private:
  json parse(const std::filesystem::path& path) {
    try {
      return json::parse(read_file(path));
    } catch (const json::exception& e) {
      fail("{}: not valid JSON: {}", path.string(), e.what());
    }
  }

  // The member, or nullptr when it is absent or null.
  static const json* optional(const json& object, const char* key) {
    if (!object.is_object()) return nullptr;
    const auto found = object.find(key);
    return found == object.end() || found->is_null() ? nullptr : &*found;
  }
  const json& member(const json& object, const char* key) {
    const json* found = optional(object, key);
    if (found == nullptr) fail("{}: \"{}\" is missing", parts_.where, key);
    return *found;
  }
  const json& array(const json& object, const char* key) {
    const json& found = member(object, key);
    require(found.is_array(), "{}: \"{}\" is not an array", parts_.where, key);
    return found;
  }
  std::string text(const json& object, const char* key) {
    const json& found = member(object, key);
    require(found.is_string(), "{}: \"{}\" is not a string", parts_.where, key);
    return found.get<std::string>();
  }
  bool flag(const json& object, const char* key, bool fallback) {
    const json* found = optional(object, key);
    if (found == nullptr) return fallback;
    require(found->is_boolean(), "{}: \"{}\" is not true or false", parts_.where, key);
    return found->get<bool>();
  }
  TokenId id(const json& value, std::string_view token) {
    if (!value.is_number_unsigned() || value.get<uint64_t>() > 0x7FFFFFFF) {
      fail("{}: the id of \"{}\" is {}, expected a token number", parts_.where, token, shown(value));
    }
    return value.get<TokenId>();
  }
  [[noreturn]] void refuse(std::string_view component, const std::string& type) {
    fail("{}: the {} \"{}\" is not supported", parts_.where, component, type);
  }
  // The children of a "Sequence" component.
  const json& children(const json& component, const char* key, int depth) {
    require(depth < kMaxNesting, "{}: \"{}\" is nested more than {} deep", parts_.where, key, kMaxNesting);
    return array(component, key);
  }

  void read_model(const json& model) {
    const json* type = optional(model, "type");  // old files leave it out
    if (type != nullptr && *type != "BPE") refuse("model", type->is_string() ? type->get<std::string>() : shown(*type));
    const json& vocabulary = member(model, "vocab");
    require(vocabulary.is_object(), "{}: \"vocab\" is not an object of token numbers", parts_.where);
    for (const auto& [token, number] : vocabulary.items()) {
      parts_.data.vocabulary.emplace_back(token, id(number, token));
    }
    for (const json& merge : array(model, "merges")) read_merge(merge);
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      const json* affix = optional(model, key);
      if (affix != nullptr && *affix != "") refuse("model option", key);
    }
    const json* dropout = optional(model, "dropout");
    if (dropout != nullptr && *dropout != 0) refuse("model option", "dropout");
    parts_.data.ignore_merges = flag(model, "ignore_merges", false);
    parts_.data.byte_fallback = flag(model, "byte_fallback", false);
    parts_.data.fuse_unknown = flag(model, "fuse_unk", false);
    if (optional(model, "unk_token") != nullptr) parts_.data.unknown_token = text(model, "unk_token");
  }

  // "left right" or ["left", "right"]
  void read_merge(const json& merge) {
    auto& merges = parts_.data.merges;
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
      return;
    }
    if (merge.is_string()) {
      const auto& pair = merge.get_ref<const std::string&>();
      const size_t space = pair.find(' ');
      if (space != std::string::npos && pair.find(' ', space + 1) == std::string::npos) {
        merges.emplace_back(pair.substr(0, space), pair.substr(space + 1));
        return;
      }
    }
    fail("{}: merge {} is {}, expected two tokens", parts_.where, merges.size(), shown(merge));
  }

  void read_normalizer(const json& component, int depth) {
    const std::string type = text(component, "type");
    if (type == "Sequence") {
      for (const json& child : children(component, "normalizers", depth)) read_normalizer(child, depth + 1);
    } else if (type == "NFC") {
      parts_.normalizer.add_unicode_form(Normalizer::Form::nfc);
    } else if (type == "NFD") {
      parts_.normalizer.add_unicode_form(Normalizer::Form::nfd);
    } else if (type == "NFKC") {
      parts_.normalizer.add_unicode_form(Normalizer::Form::nfkc);
    } else if (type == "NFKD") {
      parts_.normalizer.add_unicode_form(Normalizer::Form::nfkd);
    } else if (type == "Prepend") {
      parts_.normalizer.add_prepend(text(component, "prepend"));
    } else if (type == "Replace") {
      const std::string from = literal(component, "Replace normalizer");
      parts_.normalizer.add_replace(from, text(component, "content"));
    } else {
      refuse("normalizer", type);
    }
  }

  void read_pre_tokenizer(const json& component, int depth) {
    const std::string type = text(component, "type");
    if (byte_level_) refuse("pre-tokenizer after ByteLevel", type);
    if (type == "Sequence") {
      for (const json& child : children(component, "pretokenizers", depth)) read_pre_tokenizer(child, depth + 1);
    } else if (type == "Split") {
      read_split(component);
    } else if (type == "Digits") {
      parts_.pre_tokenizer.add_digits(flag(component, "individual_digits", false));
    } else if (type == "ByteLevel") {
      if (flag(component, "add_prefix_space", true)) parts_.pre_tokenizer.add_prefix_space();
      if (flag(component, "use_regex", true)) {
        parts_.pre_tokenizer.add_split(Regex::from_oniguruma(kGpt2Pattern, parts_.where), SplitBehavior::isolated,
                                       false);
      }
      byte_level_ = true;
    } else if (type == "Metaspace") {
      read_metaspace(component);
    } else {
      refuse("pre-tokenizer", type);
    }
  }

  void read_split(const json& component) {
    const json& pattern = member(component, "pattern");
    const bool regex = optional(pattern, "Regex") != nullptr;
    const std::string source = text(pattern, regex ? "Regex" : "String");
    require(!source.empty(), "{}: a Split pre-tokenizer has an empty pattern", parts_.where);
    parts_.pre_tokenizer.add_split(regex ? Regex::from_oniguruma(source, parts_.where) : Regex::literal(source),
                                   behavior(text(component, "behavior")), flag(component, "invert", false));
  }

  SplitBehavior behavior(const std::string& name) {
    if (name == "Isolated") return SplitBehavior::isolated;
    if (name == "Removed") return SplitBehavior::removed;
    if (name == "MergedWithPrevious") return SplitBehavior::merged_with_previous;
    if (name == "MergedWithNext") return SplitBehavior::merged_with_next;
    if (name == "Contiguous") return SplitBehavior::contiguous;
    refuse("Split behavior", name);
  }

  void read_metaspace(const json& component) {
    PreTokenizer::Metaspace metaspace{text(component, "replacement"), PrependScheme::always,
                                      flag(component, "split", true)};
    require(!metaspace.replacement.empty(), "{}: a Metaspace pre-tokenizer has an empty replacement", parts_.where);
    const json* scheme = optional(component, "prepend_scheme");
    if (scheme != nullptr && *scheme != "always") {
      if (*scheme != "first" && *scheme != "never") refuse("Metaspace prepend_scheme", shown(*scheme));
      metaspace.scheme = *scheme == "first" ? PrependScheme::first : PrependScheme::never;
    }
    if (!flag(component, "add_prefix_space", true)) metaspace.scheme = PrependScheme::never;
    parts_.pre_tokenizer.add_metaspace(std::move(metaspace));
  }

  // {"pattern": {"String": ...}} of a Replace component; a regular expression is refused.
  std::string literal(const json& component, const std::string& name) {
    const json& pattern = member(component, "pattern");
    if (optional(pattern, "String") == nullptr) refuse("pattern of a " + name, shown(pattern));
    std::string from = text(pattern, "String");
    require(!from.empty(), "{}: a {} has an empty pattern", parts_.where, name);
    return from;
  }

  // ByteLevel; or [Replace U+2581 by a space, ByteFallback, Fuse, and perhaps Strip of one leading space].
  void read_decoder(const json& component) {
    const std::string type = text(component, "type");
    if (byte_level_) {
      if (type != "ByteLevel") refuse("decoder of a ByteLevel pre-tokenizer", type);
      return;
    }
    if (type != "Sequence") refuse("decoder", type);
    parts_.decoding.kind = DetokenizerStyle::Kind::metaspace_fused;
    const json& steps = children(component, "decoders", 0);
    const auto step_is = [&](size_t k, const char* name) { return k < steps.size() && text(steps[k], "type") == name; };
    if (!step_is(0, "Replace") || !step_is(1, "ByteFallback") || !step_is(2, "Fuse") || steps.size() > 4) {
      refuse("decoder", shown(component));
    }
    parts_.decoding.space = literal(steps[0], "Replace decoder");
    if (text(steps[0], "content") != " ") refuse("decoder", shown(steps[0]));
    if (steps.size() == 3) return;
    const bool one_space = step_is(3, "Strip") && text(steps[3], "content") == " " && member(steps[3], "start") == 1 &&
                           member(steps[3], "stop") == 0;
    if (!one_space) refuse("decoder", shown(steps[3]));
    parts_.decoding.strip_leading_space = true;
  }

  void read_added_tokens(const json& tokens) {
    require(tokens.is_array(), "{}: \"added_tokens\" is not an array", parts_.where);
    for (const json& entry : tokens) {
      AddedToken token;
      token.content = text(entry, "content");
      token.id = id(member(entry, "id"), token.content);
      token.special = flag(entry, "special", false);
      token.normalized = flag(entry, "normalized", !token.special);
      token.single_word = flag(entry, "single_word", false);
      token.lstrip = flag(entry, "lstrip", false);
      token.rstrip = flag(entry, "rstrip", false);
      parts_.added_tokens.push_back(std::move(token));
    }
  }

  void read_post_processor(const json& component, int depth) {
    const std::string type = text(component, "type");
    if (type == "Sequence") {
      for (const json& child : children(component, "processors", depth)) read_post_processor(child, depth + 1);
    } else if (type == "TemplateProcessing") {
      read_template(component);
    } else if (type != "ByteLevel") {  // ByteLevel only trims offsets, which are not kept
      refuse("post-processor", type);
    }
  }

  void read_template(const json& component) {
    bool seen_text = false;
    for (const json& item : array(component, "single")) {
      if (optional(item, "Sequence") != nullptr) {
        const std::string which = text(item["Sequence"], "id");
        if (seen_text || which != "A") refuse("post-processor template", shown(component["single"]));
        seen_text = true;
        continue;
      }
      const std::string name = text(member(item, "SpecialToken"), "id");
      const json& special = member(member(component, "special_tokens"), name.c_str());
      for (const json& number : array(special, "ids")) {
        (seen_text ? parts_.suffix : parts_.prefix).push_back(id(number, name));
      }
    }
    require(seen_text, "{}: the post-processor's template has no place for the text", parts_.where);
  }

  // tokenizer.json does not say which tokens begin and end a text. The files beside it may; else the template does.
  void name_ends() {
    const HfSpecialTokens special = read_hf_special_tokens(path_.parent_path());
    if (special.bos) parts_.bos = find_token(*special.bos);
    if (special.eos) parts_.eos = find_token(*special.eos);
    if (!special.bos && !parts_.prefix.empty()) parts_.bos = parts_.prefix.front();
    if (!special.eos && !parts_.suffix.empty()) parts_.eos = parts_.suffix.back();
  }

  TokenId find_token(const std::string& content) {
    for (const AddedToken& token : parts_.added_tokens) {
      if (token.content == content) return token.id;
    }
    for (const auto& [token, id] : parts_.data.vocabulary) {
      if (token == content) return id;
    }
    fail("{}: the special token \"{}\" is not in the vocabulary", parts_.where, content);
  }

  std::filesystem::path path_;
  BpeParts parts_;
  bool byte_level_ = false;
};

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer_json(const std::filesystem::path& path) {
  return make_bpe_tokenizer(Reader(path).run());
}

}  // namespace cepe
