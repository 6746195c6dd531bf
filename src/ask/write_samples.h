// Samples into token shards, directories as training takes them (data.ask, data.ask_validation): train/00.tokens,
// train/01.tokens, ..., valid/00.tokens, and held.jsonl.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>

#include "ask/ask_maker.h"

namespace cepe {

struct AskKindCounts {
  int64_t samples = 0, chunks = 0, context_tokens = 0, decoder_tokens = 0, scored_tokens = 0;
};
struct AskWritten {
  std::vector<std::filesystem::path> files;
  std::map<std::string, AskKindCounts> training, validation;  // by kind
};

struct AskWriteOptions {
  std::filesystem::path out;  // created when absent
  int64_t threads = 0;        // 0: one a processor
  std::function<void(int64_t done, int64_t total)> progress = {};
};

// Writes all that the configuration asks for, each file atomically; the same bytes for any number of threads. A
// sample's domain is its kind. Memory: some hundreds of samples beside the maker's. Error before anything is made where
// train or valid holds a shard that this run would not replace: it would be trained on with them.
AskWritten write_samples(const AskMaker& maker, const AskConfig& config, const ShardVocabulary& vocabulary,
                         const AskWriteOptions& options);

}  // namespace cepe
