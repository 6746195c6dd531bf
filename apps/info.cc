// cepe info: what a model is and how it would run here (docs/models.md).
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/commands.h"
#include "apps/options.h"
#include "apps/output.h"
#include "base/error.h"
#include "base/json_text.h"
#include "base/output_file.h"
#include "base/report.h"
#include "context/encode_context.h"
#include "io/layout.h"
#include "ops/ops.h"

namespace cepe {
namespace {

using nlohmann::json;

const char* rope_name(RopeKind kind) {
  switch (kind) {
    case RopeKind::none: return "none";
    case RopeKind::linear: return "linear";
    case RopeKind::dynamic: return "dynamic";
    case RopeKind::yarn: return "yarn";
    case RopeKind::llama3: return "llama3";
  }
  return "unknown";
}

json stack_record(const StackConfig& config, int64_t window) {
  return {{"layers", config.num_layers},     {"width", config.hidden_size},
          {"heads", config.num_heads},       {"kv_heads", config.num_kv_heads},
          {"head_size", config.head_dim},    {"feed_forward", config.intermediate_size},
          {"vocabulary", config.vocab_size}, {"window", window}};
}

struct Counts {
  int64_t decoder = 0, encoder = 0, cross_attention = 0;
};

Counts count_parameters(Cepe& model) {
  Counts counts;
  for (const Parameter& parameter : parameters(model)) {
    int64_t elements = 1;
    for (const int64_t size : parameter.shape) elements *= size;
    switch (parameter.part) {
      case Parameter::Part::decoder: counts.decoder += elements; break;
      case Parameter::Part::encoder: counts.encoder += elements; break;
      case Parameter::Part::cross_attention: counts.cross_attention += elements; break;
    }
  }
  return counts;
}

json or_null(const std::string& text) { return text.empty() ? json() : json(text); }

// The record that --json prints; the text is made from it, so that the two cannot differ.
json record(OpenedModel& opened, const std::string& weights) {
  Cepe& model = opened.model;
  const StackConfig& decoder = model.config.decoder;
  const Counts counts = count_parameters(model);
  const int64_t element = static_cast<int64_t>(c10::elementSize(model.dtype()));

  json out = {{"path", opened.path.string()},
              {"kind", opened.kind},
              {"family", decoder.family},
              {"decoder", stack_record(decoder, decoder_window(decoder))}};
  out["decoder"]["rope"] = rope_name(decoder.rope.kind);
  out["decoder"]["tied_embeddings"] = decoder.tie_embeddings;
  out["encoder"] = nullptr;
  if (model.config.encoder) {
    out["encoder"] = stack_record(*model.config.encoder, encoder_window(*model.config.encoder));
    out["encoder"]["embeddings"] = encoder_embeddings_name(model.config.encoder_embeddings);
  }
  out["cross_attention_layers"] = model.config.num_cross_attn_layers;
  if (decoder.cross != CrossVariants{}) out["cross_attention"] = cross_variants_to_json(decoder.cross);
  out["chunk_length"] = model.config.encoder ? json(context_chunk_length(model.config)) : json();
  out["parameters"] = {{"total", counts.decoder + counts.encoder + counts.cross_attention},
                       {"trainable", counts.encoder + counts.cross_attention},
                       {"encoder", counts.encoder},
                       {"cross_attention", counts.cross_attention}};
  out["bytes_per_context_token"] = model.config.encoder ? json(model.config.encoder->hidden_size * element) : json();
  out["bytes_per_window_token"] = 2 * decoder.num_layers * decoder.num_kv_heads * decoder.head_dim * element;
  out["base"] = opened.base_path ? json(opened.base_path->string()) : json();
  out["base_sha256"] = or_null(opened.base_sha256);
  out["training"] = opened.training;
  out["device"] = model.device().str();
  out["attention_backend"] = attention_backend(model.device());
  out["dtype"] = dtype_name(model.dtype());
  out["weights"] = weights;
  out["tokenizer"] = opened.tokenizer ? json(opened.tokenizer->describe()) : json();
  out["chat_template"] = !opened.chat_template.empty();
  out["notes"] = opened.notes;
  return out;
}

void print_line(const char* name, const std::string& value) {
  print(fmt::format("{:<18} {}\n", name, printable(value)));
}

std::string count(const json& value) { return format_count(value.get<uint64_t>()); }

std::string stack_line(const json& stack) {
  return fmt::format("{} layers, width {}, {} heads and {} key-value heads of {}, feed-forward {}, vocabulary {}",
                     stack["layers"].get<int64_t>(), stack["width"].get<int64_t>(), stack["heads"].get<int64_t>(),
                     stack["kv_heads"].get<int64_t>(), stack["head_size"].get<int64_t>(),
                     stack["feed_forward"].get<int64_t>(), stack["vocabulary"].get<int64_t>());
}

// What trained parts record of their training, as far as they do: token shards, and the parts they began from.
void print_training(const json& training) {
  const auto file_line = [](const char* name, const json& file) {
    if (!file.is_object()) return;
    const auto field = [&](const char* key) {
      const auto found = file.find(key);
      return found != file.end() && found->is_string() ? printable(found->get<std::string>()) : "not recorded";
    };
    print_line(name, fmt::format("{} (sha256 {})", field("path"), field("sha256")));
  };
  if (!training.is_object()) return;
  if (training.contains("data") && training["data"].is_array()) {
    for (const json& shard : training["data"]) file_line("trained on", shard);
  }
  if (training.contains("parts")) file_line("trained from", training["parts"]);
}

void print_text(const json& info) {
  const json& decoder = info["decoder"];
  const json& parameters = info["parameters"];
  print_line("model", fmt::format("{} ({})", info["path"].get<std::string>(), info["kind"].get<std::string>()));
  print_line("family", info["family"].get<std::string>());
  print_line("decoder", stack_line(decoder) + (decoder["tied_embeddings"].get<bool>() ? ", tied embeddings" : ""));
  print_line("window",
             fmt::format("{} tokens (rope scaling: {})", count(decoder["window"]), decoder["rope"].get<std::string>()));
  if (info["encoder"].is_null()) {
    print_line("encoder", "none: a plain decoder");
  } else {
    const json& encoder = info["encoder"];
    print_line("encoder",
               stack_line(encoder) + fmt::format(", embeddings: {}", encoder["embeddings"].get<std::string>()));
    const std::string layers =
        fmt::format("{} of {} layers", info["cross_attention_layers"].get<int64_t>(), decoder["layers"].get<int64_t>());
    const bool varied = info.contains("cross_attention");
    print_line("cross-attention", varied
                                      ? fmt::format("in {}, with variants {}", layers, info["cross_attention"].dump())
                                      : "in the last " + layers);
    print_line("chunk length", count(info["chunk_length"]) + " tokens");
    print_line("a context token",
               fmt::format("{} bytes (in the decoder's window: {} bytes)", count(info["bytes_per_context_token"]),
                           count(info["bytes_per_window_token"])));
  }
  print_line("parameters", fmt::format("{} total, {} trainable (encoder {}, cross-attention {})",
                                       count(parameters["total"]), count(parameters["trainable"]),
                                       count(parameters["encoder"]), count(parameters["cross_attention"])));
  if (!info["base"].is_null()) print_line("base", info["base"].get<std::string>());
  if (!info["base_sha256"].is_null()) print_line("base sha256", info["base_sha256"].get<std::string>());
  print_training(info["training"]);
  print_line("tokenizer", info["tokenizer"].is_null() ? "none" : info["tokenizer"].get<std::string>());
  print_line("chat template", info["chat_template"].get<bool>() ? "yes" : "no");
  print_line("device", info["device"].get<std::string>());
  print_line("attention backend", info["attention_backend"].get<std::string>());
  print_line("dtype", info["dtype"].get<std::string>());
  print_line("weights", info["weights"].get<std::string>());
  for (const json& note : info["notes"]) print_line("note", note.get<std::string>());
}

void run(const ModelOptions& options, const std::string& json_file) {
  if (!json_file.empty()) check_writable(json_file);
  OpenedModel opened = open_model(options);
  const json info = record(opened, weights_text(options, opened.model));
  if (json_file.empty() || !is_standard_output(json_file)) print_text(info);
  if (!json_file.empty()) write_output(json_file, json_text(info, 2) + "\n");
}

}  // namespace

void add_info_command(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("info", "Show what a model is: family, sizes, parameters, base, and how it runs here");
  auto options = std::make_shared<ModelOptions>();
  options->weights = "auto";
  auto json_file = std::make_shared<std::string>();
  add_model_options(*command, *options, /*positional=*/true);
  command->get_option("--model")->required(false);
  add_json_option(*command, *json_file, "Write the same");
  command->callback([options, json_file] {
    // In "cepe info --json M" the only argument is the model.
    if (options->model.empty()) options->model = std::exchange(*json_file, "-");
    require(!options->model.empty() && options->model != "-", "info: a model is needed: cepe info MODEL");
    run(*options, *json_file);
  });
}

}  // namespace cepe
