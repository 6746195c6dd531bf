// Everything that `cepe data ask` is told: the keys of configs/ask/*.toml, their defaults and what they mean.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/config.h"

namespace cepe {

struct AskConfig {
  // [sources]
  std::vector<std::string> texts;          // .jsonl or .txt, plain or .zst, or directories of them
  std::vector<std::string> questions;      // "PATH;lines=odd;share=2", see question_files.h
  std::map<std::string, double> domains;   // shares of the texts' domains, written as ["books=2", ...]; others have 1
  std::vector<std::string> encyclopaedic;  // domains whose documents are articles about what they are called
  std::filesystem::path words, forms;      // words.txt and forms.txt beside the configuration
  std::string scratch;                     // a directory for the texts in a temporary file; empty: in memory

  // [kinds]: the share of each kind of ask_kinds(), in samples
  std::map<std::string, double> kinds;
  std::vector<std::string> notes;  // a sentence for each kind that has no share because its source was not given

  // [samples]
  int64_t count = 40000;                                      // for training
  int64_t validation = 0;                                     // of each kind, from documents and questions kept for it
  int64_t held = 0;                                           // questions in forms kept out of training, as .jsonl
  int64_t chunk_length = 256;                                 // tokens
  std::vector<int64_t> chunks = {1, 4, 16, 32, 64};           // upper ends of the classes of context sizes
  std::vector<int64_t> chunk_weights = {15, 20, 35, 20, 10};  // share of each class; within one all sizes alike
  int64_t decoder_tokens = 1024;                              // at most
  double answer_weight = 1, question_weight = 0;              // of each token, in the loss
  double chat = 0.2;                                          // share of samples in the model's chat template
  double single = 0.2;                                        // share of samples with one question only
  double unanswerable = 0.05;                                 // of questions of files, without their passages
  int64_t passages = 40;                                      // at most, beside the right ones
  int64_t query_tokens = 256;                                 // of kind retrieved: what passages are found by, at most
  int64_t indexed = 400000;                                   // of kind retrieved: passages that are searched, at most
  int64_t shard_samples = 20000;                              // in one shard
  int64_t seed = 1;

  // [refuse]: a text may share at most so many runs of eight words with these files, and a question none
  std::vector<std::string> refuse;  // question files (as above, without share=), or texts
  int64_t max_shared = 8;

  int64_t most_chunks() const { return chunks.back(); }
};

// Reads every key above ("samples.count", ...), refuses unknown ones and values that make no sense. `directory`: of the
// configuration, where words.txt and forms.txt are looked for. A kind whose source is not given (natural needs
// encyclopaedic or questions, questions needs questions) is left out with a note; Error where it is given a share.
AskConfig read_ask_config(Config& config, const std::filesystem::path& directory);

}  // namespace cepe
