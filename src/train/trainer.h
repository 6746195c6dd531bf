// Training on one device or on several ranks (docs/training.md): of encoder and cross-attention for a frozen decoder,
// of an encoder alone, or of a plain decoder, as the stage says (stages/trained_model.h).
//
// Example trace of a step: the prefetcher's thread draws samples and lays them out in batches; the master weights
// (float32) are cast to the arithmetic's type; the stage's model gives each batch's loss (of parts: encode -> latents
// -> decode -> loss); backward leaves float32 gradients; AdamW clips and updates on the device; the step's line is
// printed while the next step runs. Of several ranks each computes its share of the step's samples; their gradients are
// summed, and the first alone prints, validates and writes.
#pragma once

#include <ATen/core/Tensor.h>

#include <atomic>
#include <filesystem>
#include <string>

#include "train/ranks/collectives.h"
#include "train/train_config.h"

namespace cepe {

struct TrainJob {
  TrainConfig config;
  std::filesystem::path run;  // directory of the run; created, or resumed from its newest checkpoint
  at::Device device = at::kCPU;
  const std::atomic<bool>* stop = nullptr;  // set by a signal: stop after the current step with a checkpoint
  Collectives* ranks = nullptr;             // null: this process trains alone. All ranks are told the same job
};

struct TrainOutcome {
  int64_t step = 0;       // steps done in all
  bool finished = false;  // all of them; else stopped by time or signal, with a checkpoint
};

// Trains until the last step, the time limit or a stop. At the end run/final holds what the stage trains: the trained
// parts (for a published CEPE model as the base: the whole model in the published layout, the frozen tensors byte for
// byte the base's), in stage mlm the encoder with its head, in stage window the decoder.
// Nothing is written before model, shards and settings were opened and checked.
// A run may go on with another number of ranks. One rank that is stopped stops all of them after the same step; of
// several, the first alone reads and writes the run's directory.
// Error: data, base or settings that differ from those of the checkpoint, or between ranks; a full disk; a loss or
// gradient that is not finite for run.stop_after_not_finite steps in a row; another process training in the same
// directory; a rank that does not answer.
TrainOutcome train(const TrainJob& job);

}  // namespace cepe
