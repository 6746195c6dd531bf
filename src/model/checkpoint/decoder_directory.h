// A plain decoder written as a Hugging Face directory.
#pragma once

#include "model/checkpoint/checkpoint.h"

namespace cepe {

// Error, naming `where`, of a decoder that config.json says in words of cepe's own alone, so that transformers would
// load another model in silence: rotary frequencies divided one by one, biases that its family does not have (GGUF
// files).
void check_decoder_directory(const StackConfig& decoder, const std::string& where);

// Writes config.json, the rotary scaling as its "rope_scaling", and model.safetensors, in which a tied head is left
// out, each atomically. The tokenizer's files: tokenizer_files.h. training: recorded in config.json, null: nothing.
// Error for int8, of a model with an encoder, and as check_decoder_directory().
void save_decoder(Cepe& model, const std::filesystem::path& directory, SaveOptions::Weights weights,
                  const nlohmann::json& training = nullptr);

}  // namespace cepe
