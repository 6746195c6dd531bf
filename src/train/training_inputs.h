// What a training run reads: model and token shards, opened and checked before anything is written.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/checkpoint/checkpoint.h"
#include "train/samples/span_sampler.h"
#include "train/train_config.h"

namespace cepe {

// Where model.base is. Error listing the places looked at.
std::filesystem::path base_of(const TrainConfig& config);

// The decoder in the arithmetic's type `dtype`, with encoder and cross-attention in float32: those of the
// configuration's parts, the base's own, or fresh ones. The latter two ask for gradients. Error when base or parts are
// of another kind, or chunks or the decoder's tokens (in stage distill the context's with them) exceed the windows that
// encoder and decoder have.
OpenedModel open_for_training(const TrainConfig& config, const at::Device& device, at::ScalarType dtype);

// What a run reads. Corpora that it does not use are empty.
struct TrainingData {
  Corpus train, validation;    // documents
  Corpus ask, ask_validation;  // samples
};
TrainingData open_training_data(const TrainConfig& config);
// Error unless all of it fits a model: embeddings of so many rows, and its tokenizer where it has one (null: none).
// `model` names it.
void check_vocabulary(const TrainingData& data, int64_t rows, const Tokenizer* tokenizer, const std::string& model);
// Of a model with encoder and cross-attention: Error unless all of it fits, and samples the chunk length and the
// decoder's window. Returns the most tokens that the decoder reads of a sample, as a student or as a teacher.
int64_t check_training_data(const TrainConfig& config, const TrainingData& data, const OpenedModel& opened);

// [{"file", "path", "tokens", "sha256"}], an entry a shard that is learnt from: of data.train, then of data.ask.
nlohmann::json shard_record(const TrainingData& data);
// {"path", "sha256"} of the trained parts that a run starts from (of their model.safetensors), or of its encoder
// (hash_weights of model.encoder); null where it starts from neither.
nlohmann::json parts_record(const TrainConfig& config);

// Sentences for the user about shards that are used twice: as training and validation, or among the training shards
// (`trained`, the shards' record). Found by content, whatever the files are called.
std::vector<std::string> notes_on_shards(const TrainingData& data, const nlohmann::json& trained);

}  // namespace cepe
