#include "model/checkpoint/checkpoint.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "io/gguf.h"
#include "io/hf_directory.h"
#include "io/layout.h"
#include "io/safetensors.h"
#include "model/additions.h"
#include "model/checkpoint/chat_template_source.h"
#include "model/checkpoint/tensor_names.h"

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

// The rest of the program takes the shorter of the two (context_chunk_length).
void note_chunk_length(OpenedModel& opened) {
  const CepeConfig& config = opened.model.config;
  if (!config.encoder || config.chunk_length <= config.encoder->max_positions) return;
  opened.notes.push_back(fmt::format("the encoder's window is {} tokens: chunks are as long, not {} (\"chunk_length\")",
                                     config.encoder->max_positions, config.chunk_length));
}

void check_tokenizer(const OpenedModel& opened) {
  if (!opened.tokenizer) return;
  const CepeConfig& config = opened.model.config;
  const int64_t tokens = opened.tokenizer->vocabulary_size(), rows = readable_tokens(config);
  if (tokens <= rows) return;
  fail("{}: the tokenizer's token {} has the id {}, and the {}'s embedding has {} rows: they do not belong together",
       opened.path.string(), quotable(opened.tokenizer->token_text(static_cast<TokenId>(tokens - 1))), tokens - 1,
       rows < config.decoder.vocab_size ? "encoder" : "model", rows);
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

// Notes how many matrices lose digits because they are held in dtype.
void note_rounding(const TensorSource& weights, at::ScalarType dtype, OpenedModel& opened) {
  struct Form {
    DType type;
    int digits;  // binary digits of the significand
  };
  constexpr Form kForms[] = {{DType::f64, 53}, {DType::f32, 24}, {DType::f16, 11}};
  const int kept = dtype == at::kBFloat16 ? 8 : 24;
  for (const Form& form : kForms) {
    const auto& tensors = weights.tensors();
    const auto count = std::count_if(tensors.begin(), tensors.end(), [&](const TensorView& tensor) {
      return tensor.shape.size() > 1 && tensor.dtype == form.type;
    });
    if (count == 0 || form.digits <= kept) continue;
    opened.notes.push_back(fmt::format("{} matrices stored as {} are held in {} here: {} binary digits of {} ({})",
                                       count, dtype_name(form.type), dtype == at::kBFloat16 ? "bfloat16" : "float32",
                                       kept, form.digits, weights.path().string()));
  }
}

void set_chat_template(ChatTemplateSource source, OpenedModel& opened) {
  opened.chat_template = std::move(source.text);
  opened.chat_template_file = std::move(source.file);
  opened.special_tokens = std::move(source.special_tokens);
  opened.notes.insert(opened.notes.end(), source.notes.begin(), source.notes.end());
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
  create_modules(out.model);
  const LoadInput input{.source = file,
                        .device = options.device,
                        .dtype = dtype_for(file, options),
                        .names = &names,
                        .as_file = options.as_file,
                        .packable = matrices_as_file(out.model, options.device)};
  note_unused(load_parameters(parameters(out.model), input), out);
  note_rounding(file, input.dtype, out);
  for (std::string& note : gguf_notes(file)) out.notes.push_back(std::move(note));
  tie_head(out.model);
  out.tokenizer = make_gguf_tokenizer(gguf_vocabulary(file));
  set_chat_template(chat_template_of(file), out);
  check_tokenizer(out);
  return out;
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

// Weights with a "quantization_config" are packed by rules of its method, whatever type their tensors have.
void refuse_quantised(const nlohmann::json& config, const std::string& where) {
  for (const char* key : {"quantization_config", "compression_config"}) {
    if (!config.contains(key) || config[key].empty()) continue;  // null is empty, too
    const nlohmann::json& given = config[key];
    const auto method = given.is_object() && given.contains("quant_method") ? given["quant_method"] : given;
    fail("{}: the weights are quantised (\"{}\", method {}), expected float32, bfloat16 or float16", where, key,
         quotable(method.is_string() ? method.get<std::string>() : method.type_name()));
  }
}

// Its tensors have the names of a decoder's, and more.
void refuse_masked_lm(const nlohmann::json& config, const std::string& where) {
  const nlohmann::json architectures = config.value("architectures", nlohmann::json());
  if (!architectures.is_array() || architectures.empty() || architectures[0] != "LlamaForMLM") return;
  fail(
      "{}: a masked language model (LlamaForMLM), expected one that writes: it is the encoder that `cepe train` joins "
      "to a decoder as model.encoder",
      where);
}

OpenedModel open_hf(const fs::path& path, const OpenOptions& options) {
  const HfDirectory directory = open_hf_directory(path);
  refuse_quantised(directory.config, (path / "config.json").string());
  refuse_masked_lm(directory.config, (path / "config.json").string());
  OpenedModel out;
  out.path = path;
  out.model.config = cepe_config_from_json(directory.config, (path / "config.json").string());
  out.kind = out.model.config.encoder ? "published CEPE" : "Hugging Face directory";
  add_generation_end_tokens(directory.generation_config, out.model.config.decoder);
  // Some files of tied models hold the head under its own name only in the config's absence; trust the tensor.
  // Trained parts are decoded from the file to their own type: on the way through `dtype` they would be rounded.
  create_modules(out.model);
  const LoadInput input{.source = *directory.weights,
                        .device = options.device,
                        .dtype = dtype_for(*directory.weights, options),
                        .trained_dtype = options.trained_dtype,
                        .as_file = options.as_file,
                        .packable = matrices_as_file(out.model, options.device)};
  note_unused(load_parameters(parameters(out.model), input), out);
  note_rounding(*directory.weights, input.dtype, out);
  note_chunk_length(out);
  tie_head(out.model);
  if (directory.tokenizer_json)
    out.tokenizer = load_tokenizer_json(*directory.tokenizer_json);
  else if (directory.tokenizer_model)
    out.tokenizer = load_sentencepiece(*directory.tokenizer_model);
  set_chat_template(chat_template_of(directory), out);
  check_tokenizer(out);
  return out;
}

// The settings of a decoder that change what it computes with its weights.
nlohmann::json arithmetic_of(const StackConfig& config) {
  nlohmann::json out = stack_config_to_json(config);
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"}) out.erase(key);
  return out;
}

// The hash of a directory covers its weights alone: its config.json is compared with what the parts recorded of it.
// Both go through the same reader, so that defaults and spellings do not count.
void check_base_config(const nlohmann::json& config, const std::string& where, OpenedModel& base) {
  if (!fs::is_directory(base.path)) return;
  if (!config.contains("base_config")) {
    base.notes.push_back(fmt::format(
        "{} records no settings of its base: config.json of {} is believed, its hash covers the weights alone", where,
        base.path.string()));
    return;
  }
  StackConfig recorded = stack_config_from_json(config["base_config"], where + ": \"base_config\"");
  // The window changes nothing by itself; rotary scaling may depend on it.
  if (recorded.rope.kind == RopeKind::none) recorded.max_positions = base.model.config.decoder.max_positions;
  const nlohmann::json found = arithmetic_of(base.model.config.decoder), expected = arithmetic_of(recorded);
  for (const nlohmann::json* side : {&expected, &found}) {
    for (const auto& [key, value] : side->items()) {
      const nlohmann::json before = expected.value(key, nlohmann::json()), now = found.value(key, nlohmann::json());
      require(before == now, "{}: the trained parts belong to a base whose config.json says \"{}\": {}, found {} in {}",
              where, key, before.dump(), now.dump(), base.path.string());
    }
  }
}

void check_format(const nlohmann::json& config, const std::string& where) {
  constexpr int64_t kVersion = 2;  // 1: without "cross_attention"
  require(config["cepe_format"] == "trained-parts", "{}: \"cepe_format\" is {}, expected \"trained-parts\"", where,
          config["cepe_format"].dump());
  const nlohmann::json version = config.value("cepe_format_version", nlohmann::json(1));
  require(version == 1 || version == kVersion,
          "{}: \"cepe_format_version\" is {}, this program reads 1 and {}: a later one may have written it", where,
          version.dump(), kVersion);
}

void read_cross_variants(const nlohmann::json& json, const std::string& where, CepeConfig& config) {
  const CrossVariants variants = cross_variants_from_json(json, where);
  check_cross_variants(variants, config.decoder.num_layers, where + ": \"cross_attention\"");
  const auto named = static_cast<int64_t>(variants.layers.size());
  require(named == 0 || named == config.num_cross_attn_layers,
          "{}: \"cross_attention\" names {} layers, \"num_cross_attn_layers\" is {}", where, named,
          config.num_cross_attn_layers);
  config.decoder.cross = variants;
}

OpenedModel open_trained_parts(const fs::path& path, const nlohmann::json& config, const OpenOptions& options) {
  const std::string where = (path / "config.json").string();
  check_format(config, where);
  for (const char* key : {"base_model_name_or_path", "base_model_sha256"}) {
    require(config.contains(key) && config[key].is_string(), "{}: \"{}\" is missing or not a string", where, key);
  }
  const fs::path base = resolve_base(config["base_model_name_or_path"].get<std::string>(), options.base);
  const std::string expected = config["base_model_sha256"].get<std::string>(), found = hash_weights(base);
  require(expected == found, "{}: the trained parts belong to a base with SHA-256 {}, found {} in {}", where, expected,
          found, base.string());

  OpenOptions base_options = options;
  base_options.base.reset();
  base_options.window.reset();  // the whole model's, set at the end
  OpenedModel out = open_model(base, base_options);
  require(!out.model.config.encoder, "{}: the base {} is itself a CEPE model", where, base.string());
  check_base_config(config, where, out);
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
  if (config.contains("cross_attention")) read_cross_variants(config["cross_attention"], where, out.model.config);
  create_modules(out.model);
  out.kind = "trained parts";
  out.base_path = base;
  out.base_sha256 = found;
  out.path = path;
  if (config.contains("training")) out.training = config["training"];

  const SafetensorsFile weights(path / "model.safetensors");
  const at::ScalarType dtype = options.trained_dtype.value_or(out.model.dtype());
  const LoadInput input{.source = weights,
                        .device = options.device,
                        .dtype = dtype,
                        .as_file = options.as_file,
                        .packable = matrices_as_file(out.model, options.device)};
  const std::vector<std::string> unused = load_parameters(trainable_parameters(out.model), input);
  note_rounding(weights, dtype, out);
  note_chunk_length(out);
  check_tokenizer(out);
  require(unused.empty(), "{}: tensor {} is not part of this model", weights.path().string(),
          unused.empty() ? "" : unused[0]);
  return out;
}

}  // namespace

GgufVocabulary gguf_vocabulary(const GgufFile& file) {
  GgufVocabulary out;
  out.where = file.path().string();
  out.model = file.string("tokenizer.ggml.model");
  out.pre = file.value("tokenizer.ggml.pre") ? file.string("tokenizer.ggml.pre") : "default";
  out.tokens = file.strings("tokenizer.ggml.tokens");
  if (file.value("tokenizer.ggml.merges")) out.merges = file.strings("tokenizer.ggml.merges");
  if (file.value("tokenizer.ggml.scores")) {
    for (double score : file.numbers("tokenizer.ggml.scores")) out.scores.push_back(static_cast<float>(score));
  }
  if (file.value("tokenizer.ggml.token_type")) {
    for (int64_t type : file.integers("tokenizer.ggml.token_type")) {
      require(type >= 0 && type < 256, "{}: tokenizer.ggml.token_type holds {}, expected a kind of token",
              file.path().string(), type);
      out.token_types.push_back(static_cast<int32_t>(type));
    }
  }
  if (const auto id = gguf_token_id(file, "bos")) out.bos = static_cast<TokenId>(*id);
  if (const auto id = gguf_token_id(file, "eos")) out.eos = static_cast<TokenId>(*id);
  // Absent means the family's habit, which the tokenizer knows.
  if (file.value("tokenizer.ggml.add_bos_token")) out.add_bos = file.boolean("tokenizer.ggml.add_bos_token", false);
  if (file.value("tokenizer.ggml.add_eos_token")) out.add_eos = file.boolean("tokenizer.ggml.add_eos_token", false);
  out.add_space_prefix = file.boolean("tokenizer.ggml.add_space_prefix", true);
  return out;
}

namespace {

OpenedModel open_any(const fs::path& path, const OpenOptions& options) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  require(fs::exists(status), "{}: {}", path.string(),
          error && status.type() != fs::file_type::not_found ? error.message() : "no such model file or directory");
  if (!fs::is_directory(status)) {
    require(path.extension() == ".gguf" || is_gguf_file(path),
            "{}: expected a GGUF file or a model directory, found a file that does not begin with GGUF", path.string());
    return open_gguf(path, options);
  }
  const nlohmann::json config = read_model_config(path);
  return config.contains("cepe_format") ? open_trained_parts(path, config, options) : open_hf(path, options);
}

}  // namespace

OpenedModel open_model(const fs::path& path, const OpenOptions& options) {
  OpenedModel opened = open_any(path, options);
  if (!options.window) return opened;
  StackConfig& decoder = opened.model.config.decoder;
  const int64_t own = decoder_window(decoder);
  choose_window(decoder, *options.window, path.string());
  opened.model.decoder.stack.config = decoder;
  if (*options.window > own) {
    opened.notes.push_back(
        fmt::format("a window of {} tokens is asked for; the model's own holds {}: beyond, its text "
                    "may get worse",
                    *options.window, own));
  }
  return opened;
}

}  // namespace cepe
