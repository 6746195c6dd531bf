// Everything a training run is told: the keys of configs/*.toml, their defaults and what they mean.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/config.h"

namespace cepe {

struct TrainConfig {
  // [model]
  std::string base;            // the decoder: a path, or a name that resolve_base() finds
  std::string base_name;       // recorded as base_model_name_or_path; empty: the base's file name
  std::string parts;           // trained parts to go on from; empty: the base's own, or fresh ones
  int64_t encoder_layers = 8;  // of fresh parts, see AdditionOptions
  int64_t cross_attention_layers = 15;
  bool zero_output = true;

  // [data]
  std::vector<std::string> train;           // token shards, or directories of them
  std::vector<std::string> validation;      // empty: no validation
  std::vector<std::string> domain_weights;  // see SpanSamplerOptions
  double filtered = 1.0, concatenated = 0.0;

  // [train]
  std::string stage = "standard";  // standard: the decoder's tokens follow the context; warmup: they are the same
  int64_t chunk_length = 256;
  std::vector<int64_t> context_chunks = {16};  // one of these is drawn for each micro-batch
  int64_t decoder_tokens = 1024;               // at most the decoder's window
  double mask_chunks = 0.0;  // share of chunks masked: one in ten of them wholly, else a random suffix
  int64_t batch = 16;        // samples a step
  int64_t micro_batch = 16;  // samples at once; divides batch
  int64_t steps = 1000;
  double learning_rate = 5e-4;
  int64_t warmup_steps = 100;
  double final_fraction = 0.05;  // of the learning rate, at the end of the cosine
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;
  double weight_decay = 0.0;  // of matrices; norms are never decayed
  double clip = 1.0;          // largest norm of the whole gradient; 0: no clipping
  int64_t seed = 1;
  // Of the arithmetic: auto (bfloat16 on CUDA, float32 on CPU), float32, bfloat16. Trained weights are float32, and the
  // frozen ones of a published base leave as they came, whatever it is.
  std::string precision = "auto";

  // [run]: none of these changes what is learnt, so a resumed run may change them
  double max_minutes = 0;          // stop with a checkpoint after so long; 0: no limit
  int64_t checkpoint_every = 500;  // steps; 0: only at the end or when stopped
  int64_t keep_checkpoints = 2;
  int64_t validate_every = 0;  // steps; 0: only at the end
  int64_t validation_samples = 64;
  double peak_tflops = 0;        // for MFU; 0: 790 on CUDA (bfloat16 matrix product measured on an H200), none on CPU
  std::string weights = "bf16";  // of the trained matrices in run/final: f32, bf16 or int8

  int64_t max_context_tokens() const;
  int64_t span_tokens() const;      // tokens of a sample, the last label included
  int64_t tokens_per_step() const;  // context and decoder, at the mean number of chunks
};

// Reads every key above ("model.base", "train.steps", ...), refuses unknown ones and values that make no sense.
TrainConfig read_train_config(Config& config);

// The part that a resumed run must share with the checkpoint: [model], [data] except the places of files, [train].
// Where draws came to mean something else, a further key keeps a run that was begun with the old ones from going on.
nlohmann::json training_identity(const TrainConfig& config);

// Learning rate of a step (from 0): linear warm-up, then half a cosine down to final_fraction at the last step.
double learning_rate_at(const TrainConfig& config, int64_t step);

}  // namespace cepe
