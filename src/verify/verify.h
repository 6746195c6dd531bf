// Recomputes everything that a fixture directory recorded (config.json, model.safetensors, expected.safetensors,
// expected.json) and compares: the proof that this program computes what the published code computed.
//
// Quantities, found by their names in expected.safetensors:
//   <case>.logits, .loss, .encoder_hidden_states, .grad.<parameter>
//       CEPE forward and backward; cases full (no padding), padded (encoder_attention_mask), nocontext
//   greedy.tokens
//       greedy continuation of greedy.prompt with the full context
//   distill.<mode>.loss, .grad.<parameter>
//       next token + KL; modes drop, smooth_<delta>
//   log_probs, loss (with contexts, context_scores)
//       RePlug
//   logits (of any decoder)
//       plain forward
//   logits, loss, grad.<parameter> (LlamaForMLM)
//       masked LM
//
// Inputs (input_ids, labels, ...) are read, not compared. A name that is none of these makes verify fail.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "model/cross_attention.h"

namespace cepe {

struct VerifyOptions {
  double tolerance = 2e-5;     // of the recorded tensor's norm: |found - expected| / |expected|, both Euclidean
  std::string device = "cpu";  // as at::Device reads it
  bool float64 = false;        // compute in float64 instead of float32
  // How the context is read where no gradients are wanted. Gradients take absorbed or materialised where one is asked
  // for, else what training takes.
  CrossAttentionForm form = CrossAttentionForm::automatic;
  int64_t block_tokens = 0;  // of a block of the materialised form; 0: as memory allows
};

// One compared tensor. Errors are infinite where the shapes differ or a value is not finite.
struct VerifyResult {
  std::string quantity;
  double max_absolute = 0;  // max |found - expected|
  double max_relative = 0;  // the same over the largest |expected|
  double norm_error = 0;    // |found - expected| / |expected|
  bool passed = false;
};

struct VerifyReport {
  std::vector<VerifyResult> results;
  std::vector<std::string> unknown;  // recorded tensors that no rule computes
  bool passed() const;
};

// Throws Error when the directory is not a fixture; a wrong value is a failed result.
VerifyReport verify_fixture(const std::filesystem::path& directory, const VerifyOptions& options = {});

}  // namespace cepe
