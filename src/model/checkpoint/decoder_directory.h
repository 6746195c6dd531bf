// A plain decoder written as a Hugging Face directory.
#pragma once

#include "model/checkpoint/checkpoint.h"

namespace cepe {

// Writes config.json, the rotary scaling as its "rope_scaling", and model.safetensors, in which a tied head is left
// out, each atomically. The tokenizer's files: tokenizer_files.h. training: recorded in config.json, null: nothing.
// Error for int8, and of a model with an encoder.
void save_decoder(Cepe& model, const std::filesystem::path& directory, SaveOptions::Weights weights,
                  const nlohmann::json& training = nullptr);

}  // namespace cepe
