#include "model/checkpoint/masked_lm_checkpoint.h"

#include <ATen/ATen.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json_text.h"
#include "io/hf_directory.h"
#include "model/checkpoint/tensor_collection.h"
#include "model/masked_lm/masked_lm_config.h"

namespace cepe {

namespace fs = std::filesystem;

MaskedLm open_masked_lm(const fs::path& directory, at::Device device, at::ScalarType dtype) {
  const HfDirectory files = open_hf_directory(directory);
  const std::string where = (directory / "config.json").string();
  const nlohmann::json architectures = files.config.value("architectures", nlohmann::json::array());
  require(architectures == nlohmann::json::array({"LlamaForMLM"}),
          "{}: expected a masked language model (\"architectures\": [\"LlamaForMLM\"]), found {}", where,
          architectures.dump());
  MaskedLm model;
  model.stack.config = stack_config_from_json(files.config, where);
  create_modules(model);
  load_parameters(parameters(model), {*files.weights, device, dtype});
  tie_head(model);
  return model;
}

void save_masked_lm(MaskedLm& model, const fs::path& directory, SaveOptions::Weights weights,
                    const nlohmann::json& training) {
  require(weights != SaveOptions::Weights::int8,
          "the published layout has no int8 weights: choose float32 or bfloat16");
  nlohmann::json config = masked_lm_config_to_published_json(model.stack.config);
  config["torch_dtype"] = weights_name(weights);
  if (!training.is_null()) config["training"] = training;
  TensorCollection tensors;
  for (const Parameter& parameter : parameters(model)) tensors.add_weight(parameter.name, *parameter.value, weights);
  tensors.add_weight("lm_head.bias", model.bias, weights);  // one parameter of the published code under two names
  make_model_directory(directory);
  tensors.write(directory / "model.safetensors");
  write_file(directory / "config.json", json_text(config, 2) + "\n");
}

}  // namespace cepe
