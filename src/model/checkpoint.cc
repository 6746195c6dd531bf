#include "model/checkpoint.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "base/error.h"
#include "base/file.h"
#include "io/gguf.h"
#include "io/hf_directory.h"
#include "io/safetensors.h"
#include "model/tensor_names.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;

void tie_head(Cepe& model) {
  if (model.config.decoder.tie_embeddings) model.decoder.lm_head = model.decoder.stack.embedding;
}

// Tensors that hold no parameter: precomputed rotary frequencies, GGUF's divisors of them (which the configuration
// took), a tied head stored twice.
bool ignorable(const std::string& name, const CepeConfig& config) {
  const std::string suffix = "rotary_emb.inv_freq";
  if (name.size() >= suffix.size() && name.compare(name.size() - suffix.size(), suffix.size(), suffix) == 0)
    return true;
  if (name == "rope_freqs.weight") return true;
  return config.decoder.tie_embeddings && (name == "lm_head.weight" || name == "output.weight");
}

void note_unused(const std::vector<std::string>& unused, OpenedModel& opened) {
  std::vector<std::string> left;
  for (const std::string& name : unused) {
    if (!ignorable(name, opened.model.config)) left.push_back(name);
  }
  if (left.empty()) return;
  opened.notes.push_back(fmt::format("{} tensors of the file are not used, the first is {}", left.size(), left[0]));
}

void check_tokenizer(const OpenedModel& opened) {
  if (!opened.tokenizer) return;
  const int64_t tokens = opened.tokenizer->vocabulary_size(), rows = opened.model.config.decoder.vocab_size;
  require(tokens <= rows,
          "{}: the tokenizer has {} tokens and the model's embedding {} rows: they do not belong together",
          opened.path.string(), tokens, rows);
}

// The type to compute in: with keep_float32 no narrower than float32 matrices.
at::ScalarType dtype_for(const TensorSource& weights, const OpenOptions& options) {
  if (!options.keep_float32) return options.dtype;
  const auto& tensors = weights.tensors();
  const bool wide = std::any_of(tensors.begin(), tensors.end(), [](const TensorView& tensor) {
    return tensor.shape.size() > 1 && tensor.dtype == DType::f32;  // norms are float32 in narrow files, too
  });
  return wide ? at::kFloat : options.dtype;
}

void note_rounding(const TensorSource& weights, at::ScalarType dtype, OpenedModel& opened) {
  const auto& tensors = weights.tensors();
  const bool half =
      std::any_of(tensors.begin(), tensors.end(), [](const TensorView& tensor) { return tensor.dtype == DType::f16; });
  if (half && dtype == at::kBFloat16)
    opened.notes.push_back("float16 weights become bfloat16, which keeps 8 of their 11 significant bits");
}

OpenedModel open_gguf(const fs::path& path, const OpenOptions& options) {
  const GgufFile file(path);
  OpenedModel out;
  out.kind = "GGUF";
  out.path = path;
  out.model.config.decoder = stack_config_from_gguf(file);
  const StackConfig& config = out.model.config.decoder;
  TensorNames names;
  names.permuted_rotary = config.family == "llama";
  names.num_heads = config.num_heads;
  names.num_kv_heads = config.num_kv_heads;
  const LoadInput input{file, options.device, dtype_for(file, options), &names};
  note_unused(load_parameters(parameters(out.model), input), out);
  note_rounding(file, input.dtype, out);
  tie_head(out.model);
  out.tokenizer = make_gguf_tokenizer(gguf_vocabulary(file));
  if (file.value("tokenizer.chat_template")) out.chat_template = file.string("tokenizer.chat_template");
  check_tokenizer(out);
  return out;
}

std::string chat_template_of(const HfDirectory& directory, std::vector<std::string>& notes) {
  const fs::path separate = directory.path / "chat_template.jinja";
  if (fs::exists(separate)) return read_file(separate);
  const auto& config = directory.tokenizer_config;
  if (!config.contains("chat_template")) return "";
  const auto& value = config["chat_template"];
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) return "";
  // Several named templates: the one called "default".
  std::string names;
  for (const auto& entry : value) {
    if (!entry.is_object() || !entry.contains("template") || !entry["template"].is_string()) continue;
    const std::string name = entry.value("name", "");
    if (name == "default") return entry["template"].get<std::string>();
    names += (names.empty() ? "" : ", ") + name;
  }
  if (!names.empty())
    notes.push_back(fmt::format("of the chat templates {} none is called default: none is used", names));
  return "";
}

void add_generation_end_tokens(const nlohmann::json& generation, StackConfig& config) {
  if (!generation.contains("eos_token_id")) return;
  const auto& value = generation["eos_token_id"];
  const auto add = [&](const nlohmann::json& id) {
    if (!id.is_number_integer()) return;
    const int64_t token = id.get<int64_t>();
    if (std::find(config.end_tokens.begin(), config.end_tokens.end(), token) == config.end_tokens.end())
      config.end_tokens.push_back(token);
  };
  if (value.is_array()) {
    for (const auto& id : value) add(id);
  } else {
    add(value);
  }
}

OpenedModel open_hf(const fs::path& path, const OpenOptions& options) {
  const HfDirectory directory = open_hf_directory(path);
  OpenedModel out;
  out.path = path;
  out.model.config = cepe_config_from_json(directory.config, (path / "config.json").string());
  out.kind = out.model.config.encoder ? "published CEPE" : "Hugging Face directory";
  add_generation_end_tokens(directory.generation_config, out.model.config.decoder);
  // Some files of tied models hold the head under its own name only in the config's absence; trust the tensor.
  const LoadInput input{*directory.weights, options.device, dtype_for(*directory.weights, options)};
  note_unused(load_parameters(parameters(out.model), input), out);
  note_rounding(*directory.weights, input.dtype, out);
  if (options.trained_dtype) {
    for (Parameter& parameter : trainable_parameters(out.model))
      *parameter.value = parameter.value->to(*options.trained_dtype);
  }
  tie_head(out.model);
  if (directory.tokenizer_json)
    out.tokenizer = load_tokenizer_json(*directory.tokenizer_json);
  else if (directory.tokenizer_model)
    out.tokenizer = load_sentencepiece(*directory.tokenizer_model);
  out.chat_template = chat_template_of(directory, out.notes);
  check_tokenizer(out);
  return out;
}

OpenedModel open_trained_parts(const fs::path& path, const nlohmann::json& config, const OpenOptions& options) {
  const std::string where = (path / "config.json").string();
  for (const char* key : {"base_model_name_or_path", "base_model_sha256"}) {
    require(config.contains(key) && config[key].is_string(), "{}: \"{}\" is missing or not a string", where, key);
  }
  const fs::path base = resolve_base(config["base_model_name_or_path"].get<std::string>(), options.base);
  const std::string expected = config["base_model_sha256"].get<std::string>(), found = hash_weights(base);
  require(expected == found, "{}: the trained parts belong to a base with SHA-256 {}, found {} in {}", where, expected,
          found, base.string());

  OpenOptions base_options = options;
  base_options.base.reset();
  OpenedModel out = open_model(base, base_options);
  require(!out.model.config.encoder, "{}: the base {} is itself a CEPE model", where, base.string());
  nlohmann::json merged = stack_config_to_json(out.model.config.decoder);
  for (const char* key :
       {"encoder_config", "encoder_hidden_size", "num_cross_attn_layers", "encoder_embeddings", "chunk_length"}) {
    require(config.contains(key), "{}: \"{}\" is missing", where, key);
    merged[key] = config[key];
  }
  merged["do_cross_attention"] = true;
  const StackConfig decoder = out.model.config.decoder;  // as the base gives it: the merged form is only a carrier
  out.model.config = cepe_config_from_json(merged, where);
  out.model.config.decoder = decoder;
  out.kind = "trained parts";
  out.base_path = base;
  out.base_sha256 = found;
  out.path = path;

  const SafetensorsFile weights(path / "model.safetensors");
  const at::ScalarType dtype = options.trained_dtype.value_or(out.model.dtype());
  const std::vector<std::string> unused =
      load_parameters(trainable_parameters(out.model), {weights, options.device, dtype});
  require(unused.empty(), "{}: tensor {} is not part of this model", weights.path().string(),
          unused.empty() ? "" : unused[0]);
  return out;
}

}  // namespace

GgufVocabulary gguf_vocabulary(const GgufFile& file) {
  GgufVocabulary out;
  out.model = file.string("tokenizer.ggml.model");
  out.pre = file.value("tokenizer.ggml.pre") ? file.string("tokenizer.ggml.pre") : "default";
  out.tokens = file.strings("tokenizer.ggml.tokens");
  if (file.value("tokenizer.ggml.merges")) out.merges = file.strings("tokenizer.ggml.merges");
  if (file.value("tokenizer.ggml.scores")) {
    for (double score : file.numbers("tokenizer.ggml.scores")) out.scores.push_back(static_cast<float>(score));
  }
  if (file.value("tokenizer.ggml.token_type")) {
    for (int64_t type : file.integers("tokenizer.ggml.token_type"))
      out.token_types.push_back(static_cast<int32_t>(type));
  }
  if (file.value("tokenizer.ggml.bos_token_id"))
    out.bos = static_cast<TokenId>(file.integer("tokenizer.ggml.bos_token_id"));
  if (file.value("tokenizer.ggml.eos_token_id"))
    out.eos = static_cast<TokenId>(file.integer("tokenizer.ggml.eos_token_id"));
  // Absent means the family's habit, which the tokenizer knows.
  if (file.value("tokenizer.ggml.add_bos_token")) out.add_bos = file.boolean("tokenizer.ggml.add_bos_token", false);
  if (file.value("tokenizer.ggml.add_eos_token")) out.add_eos = file.boolean("tokenizer.ggml.add_eos_token", false);
  out.add_space_prefix = file.boolean("tokenizer.ggml.add_space_prefix", true);
  return out;
}

OpenedModel open_model(const fs::path& path, const OpenOptions& options) {
  require(fs::exists(path), "{}: no such model file or directory", path.string());
  if (!fs::is_directory(path)) {
    require(path.extension() == ".gguf", "{}: expected a .gguf file or a model directory", path.string());
    return open_gguf(path, options);
  }
  const nlohmann::json config = read_json(path / "config.json");
  if (config.is_object() && config.value("cepe_format", "") == "trained-parts")
    return open_trained_parts(path, config, options);
  return open_hf(path, options);
}

namespace {

// Looks for a model in one place after the other.
class Search {
 public:
  // A place that may not be searched is none, and the list of places says so.
  bool find(const fs::path& place) {
    std::error_code error;
    const bool found = fs::exists(place, error);
    if (found) {
      path_ = place;
    } else {
      looked_ += (looked_.empty() ? "" : ", ") + place.string() + (error ? " (" + error.message() + ")" : "");
    }
    return found;
  }
  bool find_by_name(const fs::path& leaf) {
    const char *models = std::getenv("CEPE_MODELS"), *home = std::getenv("HOME");
    if (models && *models && find(fs::path(models) / leaf)) return true;
    return home && *home && find(fs::path(home) / ".cache/cepe/models" / leaf);
  }
  const fs::path& path() const { return path_; }
  const std::string& looked() const { return looked_; }

 private:
  fs::path path_;
  std::string looked_;
};

}  // namespace

fs::path find_model(const std::string& name) {
  Search search;
  require(!name.empty(), "the name of the model is empty");
  const fs::path path(name);
  if (search.find(path) || (!path.has_parent_path() && search.find_by_name(path))) return search.path();
  const std::string places = search.looked() == name ? "" : " (looked at " + search.looked() + ")";
  fail("{}: no such model file or directory{}", name, places);
}

bool is_trained_parts(const fs::path& path) {
  if (!fs::is_directory(path) || !fs::exists(path / "config.json")) return false;
  const nlohmann::json config = read_json(path / "config.json");
  return config.is_object() && config.contains("cepe_format");
}

fs::path resolve_base(const std::string& name, const std::optional<fs::path>& given) {
  if (given) {
    require(fs::exists(*given), "--base {}: no such file or directory", given->string());
    return *given;
  }
  Search search;
  if (fs::path(name).is_absolute() && search.find(name)) return search.path();
  if (search.find_by_name(fs::path(name).filename())) return search.path();
  fail("the base model {} was not found (looked at {}): give it with --base, set CEPE_MODELS, or run scripts/setup.sh",
       name, search.looked());
}

std::string hash_weights(const fs::path& path) {
  if (!fs::is_directory(path)) return sha256_file(path);
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(path)) {
    if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  std::string lines;
  for (const fs::path& file : files) lines += sha256_file(file) + "  " + file.filename().string() + "\n";
  return sha256_bytes(lines);
}

}  // namespace cepe
