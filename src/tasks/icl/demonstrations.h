// In-context learning: texts to be labelled, with labelled ones before them, some of which the decoder reads in its
// window and others the encoder (Yen, Gao, Chen 2024, arXiv 2402.16617, section 5.3).
//
//   asked and shown texts -> for each asked one and seed a scene: what is read in each setting
//
// A scene's demonstrations are drawn anew for each asked text and seed, in rounds: a round has one of each label, in a
// random order, so that labels are as even as their number allows. The decoder reads the first of the list, the encoder
// those that follow: of more demonstrations the first are the same.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tasks/icl/labelled_files.h"

namespace cepe {

// A column of the results.
struct IclSetting {
  int64_t decoder = 0, encoder = 0;  // demonstrations
  bool shuffled = false;  // the control: the labels of the encoder's demonstrations change places among themselves
  // "decoder 2 + encoder 18, shuffled labels", "no demonstrations"
  std::string name() const;
  bool operator==(const IclSetting&) const = default;
};

struct IclOptions {
  std::vector<int64_t> decoder_shots = {2}, encoder_shots = {0, 18, 38};  // each pair is a setting
  std::vector<int64_t> decoder_alone;                                     // settings without encoder beside them
  bool no_demonstrations = true, shuffled_labels = true;                  // controls
  std::vector<uint64_t> seeds = {42, 43, 44};
  int64_t limit = 250;    // asked texts; 0: all
  bool in_order = false;  // the first ones of the file, not such as the first seed draws
};

// All settings, each once: no demonstrations, each pair with its control where the encoder has two demonstrations or
// more, the decoder alone. Error where there is none, a number is negative, or a seed comes twice.
std::vector<IclSetting> icl_settings(const IclOptions& options);

struct LabelledTextSet {
  std::string name;  // unique in a run
  LabelTask task;
  std::vector<LabelledText> asked, shown;
};

// What is read in one setting.
struct IclPrompt {
  IclSetting setting;
  std::string decoder_text;  // the demonstrations, each followed by a blank line; the asked text comes after it
  std::vector<std::string> encoder_texts;  // each a document of its own
  std::vector<std::string> sources;        // of each of them, its number in the file of shown texts, from 1
};

struct IclScene {
  std::string id;  // "sst2/17/42": the asked text's number in the file, from 1, and the seed
  std::string text, label;
  uint64_t seed = 0;
  std::vector<IclPrompt> prompts;  // no demonstrations: with the first seed alone
};

// Whether the decoder's window holds a prompt and the longest label after it.
using FitsWindow = std::function<bool(const std::string& prompt)>;

// The scenes of one set. Immutable once made; threads may share it.
class IclSource {
 public:
  // Texts that do not fit the window in every setting are left out. Error where there are fewer than two labels, where
  // no text is left to be asked, and where there is no text to show that differs from the asked one.
  IclSource(LabelledTextSet set, const IclOptions& options, const FitsWindow& fits);

  const std::string& name() const { return set_.name; }
  const LabelTask& task() const { return set_.task; }
  // What is ranked: the task's labels, or those of the files in alphabetical order.
  const std::vector<std::string>& labels() const { return labels_; }
  int64_t left_out() const { return left_out_; }
  // Asked text by asked text, the seeds of one follow each other.
  int64_t scenes() const { return static_cast<int64_t>(asked_.size() * options_.seeds.size()); }
  IclScene scene(int64_t index) const;
  int64_t prompts(int64_t index) const;  // of a scene

 private:
  IclScene make(size_t asked, size_t seed) const;
  // Indices into the shown texts; none has the asked text.
  std::vector<size_t> draw(size_t asked, uint64_t seed, int64_t count) const;
  std::string demonstration(const std::string& text, const std::string& label) const;
  IclPrompt prompt(const IclSetting& setting, const std::vector<size_t>& drawn, size_t asked, uint64_t seed) const;
  bool fits(size_t asked, const FitsWindow& fits) const;
  void choose(const FitsWindow& fits);

  LabelledTextSet set_;
  IclOptions options_;
  std::vector<IclSetting> settings_;
  std::vector<std::string> labels_;
  std::vector<std::vector<size_t>> by_label_;  // shown texts of each label that has some
  std::vector<size_t> asked_;
  int64_t most_ = 0;  // demonstrations of any setting
  int64_t left_out_ = 0;
};

}  // namespace cepe
