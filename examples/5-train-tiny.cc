// Lesson 5: training. Encoder and cross-attention are added to a frozen decoder and learn to read.
//
// The decoder here is a random model of two layers and the corpus a page, so that 20 steps take a second; a real run
// differs in its numbers alone (configs/*.toml, docs/training.md). A run stopped anywhere goes on bit for bit from its
// directory when the same call is made again.
#include <fmt/format.h>

#include <fstream>

#include "base/error.h"
#include "base/file.h"
#include "data/tokenize.h"
#include "model/checkpoint/checkpoint.h"
#include "train/trainer.h"

using namespace cepe;
namespace fs = std::filesystem;

int main(int argc, char** argv) try {
  require(argc == 4, "usage: 5-train-tiny BASE CORPUS.jsonl RUN_DIRECTORY");
  const fs::path base = argv[1], corpus = argv[2], run = argv[3];
  // The corpus as a shard of token ids, which training maps into memory.
  const TokenizeSummary shard = tokenize_file(*open_model(base).tokenizer, corpus, {.out = run / "shards"});

  TrainJob job;
  job.run = run;
  TrainConfig& config = job.config;
  config.base = base;
  config.train = {shard.shard};
  config.encoder_layers = config.cross_attention_layers = 1;  // what is added
  config.chunk_length = 8, config.context_chunks = {2, 4}, config.decoder_tokens = 24;
  config.mask_chunks = 0.3;                        // some chunks are hidden, so that contexts of any length work
  config.filtered = 2.0, config.concatenated = 1;  // the mixture: spans of one document, and of several
  config.batch = 4, config.micro_batch = 2, config.steps = 20;
  config.learning_rate = 1e-2, config.warmup_steps = 3, config.weight_decay = 0.01;
  config.checkpoint_every = 0, config.weights = "f32";
  train(job);  // prints a line a step, and writes the same as JSON to log.jsonl

  std::vector<double> losses;
  std::ifstream lines(run / "log.jsonl");
  for (std::string line; std::getline(lines, line);) {
    const nlohmann::json step = nlohmann::json::parse(line);
    if (step.contains("loss")) losses.push_back(step["loss"]);
  }
  fmt::print("loss of a token: {:.2f} at step 1, {:.2f} at step {}\n", losses.front(), losses.back(), losses.size());
  OpenedModel trained = open_model(run / "final", {.base = base});
  fmt::print("{}: {}, {} trained tensors\n", (run / "final").string(), trained.kind,
             trainable_parameters(trained.model).size());
} catch (const Error& error) {
  fmt::print(stderr, "{}\n", error.what());
  return 1;
}
