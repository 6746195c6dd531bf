// Runs in-context learning: each label of a set is scored after each prompt, and the records go onto the disk.
//
//   IclSource (tasks/icl/demonstrations.h) -> scene -> the encoder's documents to a Context, prompt and labels to
//   ContinuationScorer -> rank_labels() -> samples.jsonl
//
// A scene's numbers depend on the scene alone. Its records are on the disk before the next scene begins: a run that was
// killed goes on at the scene that it was in and leaves the same samples.jsonl, bit for bit, as one that was not.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "model/checkpoint/checkpoint.h"
#include "speed/meter.h"
#include "tasks/icl/demonstrations.h"

namespace cepe {

// What a label's likelihood is compared with.
enum class IclCalibration {
  none,
  empty,        // the label after the begin token alone (or the end-of-text token where there is no begin), no context
  domain,       // the label after "Sentiment:", no context
  content_free  // the label after the same demonstrations and the text "N/A", the encoder's demonstrations read
};
// "none", "empty", "domain" or "content-free"; Error naming the option otherwise.
IclCalibration icl_calibration_from_name(std::string_view name, std::string_view option);

struct IclRunOptions {
  std::filesystem::path directory;  // of samples.jsonl and run.json; made where it does not exist
  nlohmann::json configuration;     // an object: all that the scores depend on; recorded in run.json
  IclCalibration calibration = IclCalibration::empty;
  // Prompts that are scored together, at least one text's with one seed; 1: each by itself, whose scores depend on
  // nothing else. Which come together depends on the data alone, so that an interrupted run goes on to the same file.
  int64_t batch = 1;
  std::function<void(int64_t done, int64_t total)> progress;  // scenes; may be empty
};

// One text in one setting with one seed: what results are made of.
struct IclRecord {
  std::map<std::string, std::string> tags;  // task, setting, decoder, encoder, labels (own, shuffled or none), seed
  std::string cluster;                      // the asked text: its records vary together
  std::string label;
  std::map<std::string, std::string> chosen;  // by each ranking (label_rankings.h)
};

struct IclRun {
  std::vector<IclRecord> records;  // all of them, in order, those of an earlier run included
  int64_t resumed = 0;             // records that were there already
  Cost cost;                       // of this run
};

// The prompt's tokens, the begin token first where the tokenizer adds one; special tokens in it are plain text.
std::vector<TokenId> icl_prompt_tokens(const Tokenizer& tokenizer, const std::string& prompt);
// Of a label as it stands after a prompt, tokenised by itself, as the published evaluation does.
std::vector<TokenId> icl_label_tokens(const Tokenizer& tokenizer, const std::string& label);

// Error where the directory holds a run of another configuration or records of other texts, and where the encoder is to
// read and the model has none.
IclRun run_icl(const OpenedModel& opened, std::span<const IclSource> sources, const IclRunOptions& options);

}  // namespace cepe
