// Masked language models on disk, in the layout of hyen/LLaMA-MLM-Large (LlamaForMLM): a Hugging Face directory of
// model.*, lm_dense, lm_layer_norm, lm_bias (also as lm_head.bias) and, unless it is tied, lm_head.weight.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

#include "model/checkpoint/checkpoint.h"
#include "model/masked_lm/masked_lm.h"

namespace cepe {

// Error naming the file where it is no LlamaForMLM, or a tensor is missing or of another shape.
MaskedLm open_masked_lm(const std::filesystem::path& directory, at::Device device = at::kCPU,
                        at::ScalarType dtype = at::kFloat);

// Writes config.json and model.safetensors, each atomically. training: recorded in config.json, null: nothing. Error
// for int8, or where the encoder cannot be expressed in the published layout.
void save_masked_lm(MaskedLm& model, const std::filesystem::path& directory, SaveOptions::Weights weights,
                    const nlohmann::json& training = nullptr);

}  // namespace cepe
