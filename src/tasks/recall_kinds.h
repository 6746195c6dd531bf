// The kinds of recall: how a text of so many units is made, and what is asked about it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/random.h"
#include "tasks/recall_data.h"

namespace cepe {

// A text in pieces that are never cut, each with the space or line break after it, and the question about it.
struct RecallText {
  std::vector<std::string> pieces;
  std::string before, after, question, answer_prefix;  // as in Question (example.h)
  std::vector<std::string> references;
  std::string cluster;
};

// Which example of a kind. Its draws depend on nothing else.
struct RecallKey {
  uint64_t seed = 0;
  uint64_t task = 0;   // a number of its own for each kind, so that tasks share no draws
  int64_t length = 0;  // tokens that the example is to have
  int64_t number = 0;  // of the example, from 0
  int64_t depth = -1;  // percent; -1: drawn
  // Independent draws for each purpose, so that a text of more units begins like one of fewer.
  KeyedRandom random(uint64_t purpose) const {
    return KeyedRandom{
        seed,   task, static_cast<uint64_t>(length), static_cast<uint64_t>(number), static_cast<uint64_t>(depth + 1),
        purpose};
  }
};

struct RecallKind {
  std::string name;
  std::string missing;         // the files that it needs and the data lacks; empty: none
  int64_t max_tokens = 0;      // of an answer
  bool at_depths = false;      // where it is hidden is chosen
  bool any_reference = false;  // one reference is enough (match_any); else all count (match_all)
  bool least_varies = false;   // the shortest text is the example's own: each is measured before it is asked for
  int64_t least_units = 1, most_units = int64_t{1} << 24;
  std::function<RecallText(const RecallKey& key, int64_t units)> make;  // pure, thread-safe
};

// niah_single_1-3, niah_multikey_1-3, niah_multivalue, niah_multiquery: a unit is a line of noise, a line that looks
// like a needle, or a word of the essays. needle, kv: a unit is a word of the essays, a pair.
std::vector<RecallKind> needle_kinds(const std::shared_ptr<const RecallData>& data);
// vt: a unit is a line of noise. cwe: a different word. fwe: a word.
std::vector<RecallKind> word_kinds(const std::shared_ptr<const RecallData>& data);
// qa_1 (SQuAD), qa_2 (HotpotQA): a unit is a document.
std::vector<RecallKind> question_kinds(const std::shared_ptr<const RecallData>& data, uint64_t seed);

// A draw without replacement: `count` of 0 .. n-1, in the order drawn. count <= n.
std::vector<int64_t> draw_distinct(KeyedRandom random, int64_t count, int64_t n);
template <typename T>
void shuffle(std::vector<T>& values, KeyedRandom random) {
  for (size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[random.below(static_cast<int64_t>(i))]);
}

}  // namespace cepe
