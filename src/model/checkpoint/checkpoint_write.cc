#include <ATen/ATen.h>

#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/json_text.h"
#include "io/hf_directory.h"
#include "model/checkpoint/checkpoint.h"
#include "model/checkpoint/tensor_collection.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;
using Weights = SaveOptions::Weights;

}  // namespace

Weights saved_weights_from_name(const std::string& name, const std::string& where) {
  if (name == "f32") return Weights::f32;
  if (name == "bf16") return Weights::bf16;
  if (name == "int8") return Weights::int8;
  fail("{}: expected f32, bf16 or int8, found \"{}\"", where, name);
}

void save_trained_parts(Cepe& model, const fs::path& directory, const SaveOptions& options) {
  require(model.encoder.has_value(), "{}: the model has no trained parts to save", directory.string());
  make_model_directory(directory);
  TensorCollection tensors;
  for (const Parameter& parameter : trainable_parameters(model))
    tensors.add_weight(parameter.name, *parameter.value, options.weights);
  const bool plain = model.config.decoder.cross == CrossVariants{};
  nlohmann::json config = {
      {"cepe_format", "trained-parts"},
      {"cepe_format_version", plain ? 1 : 2},
      {"base_model_name_or_path", options.base_name},
      {"base_model_sha256", options.base_sha256},
      {"base_config", stack_config_to_json(model.config.decoder)},
      {"encoder_embeddings", encoder_embeddings_name(model.config.encoder_embeddings)},
      {"encoder_config", stack_config_to_json(*model.config.encoder)},
      {"encoder_hidden_size", model.config.encoder->hidden_size},
      {"num_cross_attn_layers", model.config.num_cross_attn_layers},
      {"chunk_length", model.config.chunk_length},
      {"weights", weights_name(options.weights)},
  };
  if (!plain) config["cross_attention"] = cross_variants_to_json(model.config.decoder.cross);
  if (!options.training.is_null()) config["training"] = options.training;
  tensors.write(directory / "model.safetensors");
  write_file(directory / "config.json", json_text(config, 2) + "\n");
}

void export_published(Cepe& model, const fs::path& directory, Weights weights) {
  require(weights != Weights::int8, "the published layout has no int8 weights: choose float32 or bfloat16");
  nlohmann::json config = cepe_config_to_published_json(model.config);
  config["torch_dtype"] = weights_name(weights);
  make_model_directory(directory);
  TensorCollection tensors;
  for (const Parameter& parameter : parameters(model)) tensors.add_weight(parameter.name, *parameter.value, weights);
  if (model.config.decoder.tie_embeddings) tensors.add_weight("lm_head.weight", model.decoder.lm_head, weights);
  if (model.encoder && model.config.encoder_embeddings == EncoderEmbeddings::decoder) {
    tensors.add_weight("encoder.embed_tokens.weight", model.decoder.stack.embedding, weights);
  }
  tensors.write(directory / "model.safetensors");
  write_file(directory / "config.json", json_text(config, 2) + "\n");
}

void export_trained_published(Cepe& model, const fs::path& directory, const TrainedPublishedOptions& options) {
  require(options.weights != Weights::int8, "the published layout has no int8 weights: choose float32 or bfloat16");
  nlohmann::json config = cepe_config_to_published_json(model.config);
  const HfDirectory base = open_hf_directory(options.base);
  TensorCollection tensors;
  std::set<std::string> trained;
  for (const Parameter& parameter : trainable_parameters(model)) {
    tensors.add_weight(parameter.name, *parameter.value, options.weights);
    trained.insert({parameter.name, parameter.name + "_scale"});
  }
  // The layout ties nothing: what the model takes from the decoder's embedding is written as a copy of it.
  std::set<std::string> copied;
  if (model.config.decoder.tie_embeddings) copied.insert("lm_head.weight");
  if (model.config.encoder_embeddings == EncoderEmbeddings::decoder) copied.insert("encoder.embed_tokens.weight");
  for (const TensorView& view : base.weights->tensors()) {
    if (trained.count(view.name) || copied.count(view.name)) continue;
    tensors.add_unchanged(view);
    if (view.name != "model.embed_tokens.weight") continue;
    for (const std::string& name : copied) tensors.add_unchanged({name, view.dtype, view.shape, view.bytes});
  }
  config["torch_dtype"] = tensors.matrix_type();
  if (!options.training.is_null()) config["training"] = options.training;
  make_model_directory(directory);
  tensors.write(directory / "model.safetensors");
  write_file(directory / "config.json", json_text(config, 2) + "\n");
}

}  // namespace cepe
