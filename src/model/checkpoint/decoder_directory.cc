#include "model/checkpoint/decoder_directory.h"

#include <map>

#include "base/error.h"
#include "base/file.h"
#include "base/json_text.h"
#include "model/checkpoint/tensor_collection.h"

namespace cepe {

void check_decoder_directory(const StackConfig& decoder, const std::string& where) {
  require(decoder.rope.frequency_divisors.empty(),
          "{}: rotary frequencies are divided one by one (rope_freqs.weight), which config.json of a Hugging Face "
          "directory cannot say: expected the model as such a directory itself, with \"rope_scaling\"",
          where);
  const bool usual =
      decoder.family == "qwen2" ? decoder.qkv_bias && !decoder.output_bias : decoder.qkv_bias == decoder.output_bias;
  require(usual && (decoder.family != "mistral" || !decoder.output_bias),
          "{}: attention of the family {} with{} biases on q, k and v and with{} one on o, which config.json of a "
          "Hugging Face directory cannot say",
          where, decoder.family, decoder.qkv_bias ? "" : "out", decoder.output_bias ? "" : "out");
}

void save_decoder(Cepe& model, const std::filesystem::path& directory, SaveOptions::Weights weights,
                  const nlohmann::json& training) {
  require(!model.encoder, "{}: the model has an encoder: it is no plain decoder", directory.string());
  require(weights != SaveOptions::Weights::int8,
          "a Hugging Face directory has no int8 weights of ours: choose float32 or bfloat16");
  check_decoder_directory(model.config.decoder, directory.string());
  static const std::map<std::string, std::string> classes = {{"llama", "LlamaForCausalLM"},
                                                             {"mistral", "MistralForCausalLM"},
                                                             {"qwen2", "Qwen2ForCausalLM"},
                                                             {"qwen3", "Qwen3ForCausalLM"}};
  nlohmann::json config = stack_config_to_json(model.config.decoder);
  config["architectures"] = {classes.at(model.config.decoder.family)};
  config["torch_dtype"] = weights_name(weights);
  if (!training.is_null()) config["training"] = training;
  TensorCollection tensors;
  for (const Parameter& parameter : parameters(model)) tensors.add_weight(parameter.name, *parameter.value, weights);
  make_model_directory(directory);
  tensors.write(directory / "model.safetensors");
  write_file(directory / "config.json", json_text(config, 2) + "\n");
}

}  // namespace cepe
