// Short runs on the golden models, for the tests of training.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/temporary_directory.h"
#include "data/corpora.h"
#include "model/cepe.h"
#include "train/trainer.h"

namespace cepe {

namespace fs = std::filesystem;

inline const char* const kPlain = CEPE_TEST_DATA "/replug";              // a plain decoder of 2 layers
inline const char* const kPublished = CEPE_TEST_DATA "/cepe-gqa-last2";  // with encoder and cross-attention

// Of the trained parts, by the loss; none is left behind.
inline std::vector<at::Tensor> gradients(Cepe& model, const at::Tensor& loss) {
  std::vector<at::Tensor> found;
  loss.backward();
  for (const Parameter& parameter : trainable_parameters(model)) {
    at::Tensor& grad = parameter.value->mutable_grad();
    found.push_back(grad.defined() ? grad.clone() : at::zeros_like(*parameter.value));
    grad.reset();
  }
  return found;
}

class TrainerTest : public testing::Test {
 protected:
  TrainerTest() { write_corpus(directory_ / "data.tokens", {128, {400, 300, 500}, {"a", "b"}}); }

  TrainJob job(const std::string& name, const std::string& base = kPlain) const {
    TrainJob job;
    TrainConfig& c = job.config;
    c.base = base;
    c.train = c.validation = {(directory_ / "data.tokens").string()};
    c.encoder_layers = 1;
    c.cross_attention_layers = 1;
    c.chunk_length = 8;
    c.context_chunks = {2, 3};
    c.decoder_tokens = 16;
    c.mask_chunks = 0.3;
    c.batch = 4;
    c.micro_batch = 2;
    c.steps = 12;
    c.learning_rate = 1e-3;
    c.warmup_steps = 3;
    c.checkpoint_every = 4;
    c.validation_samples = 6;
    c.weights = "f32";
    job.run = directory_ / name;
    return job;
  }

  std::string final_hash(const TrainJob& job) const { return sha256_file(job.run / "final/model.safetensors"); }
  std::vector<nlohmann::json> log(const TrainJob& job) const {
    std::vector<nlohmann::json> records;
    std::ifstream lines(job.run / "log.jsonl");
    for (std::string line; std::getline(lines, line);) records.push_back(nlohmann::json::parse(line));
    return records;
  }
  std::string refusal(const TrainJob& job) const {
    return error_of<Error>([&] { train(job); });
  }

  const TemporaryDirectory directory_;
};

}  // namespace cepe
