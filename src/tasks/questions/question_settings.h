// The settings of questions, which are the columns of `eval qa`, and what is asked for of them.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "tasks/example.h"

namespace cepe {

// Which passages stand beside the question.
enum class GoldPassage {
  always,    // the gold passages, among others without an answer
  never,     // only passages without an answer
  retrieved  // the first of the question's own, in the file's order
};
const char* gold_passage_name(GoldPassage gold);  // "always", "never", "retrieved"
// Error naming the option where there is no such choice.
GoldPassage gold_passage_from_name(std::string_view name, std::string_view option);

enum class PassageReader { encoder, decoder };
const char* passage_reader_name(PassageReader reader);  // "encoder", "decoder"
PassageReader passage_reader_from_name(std::string_view name, std::string_view option);

// "first", "middle", "last", "random", or the number of passages before it. Error naming the option otherwise.
void check_gold_position(std::string_view position, std::string_view option);

struct QuestionTaskOptions {
  std::vector<int64_t> decoder_passages = {0};  // in the decoder's window, before the question
  std::vector<int64_t> encoder_passages = {1};  // through the encoder, each a document; every pair is a setting
  std::vector<GoldPassage> gold = {GoldPassage::always};
  std::vector<PassageReader> gold_readers = {PassageReader::encoder};  // who reads the gold passages, of always
  std::vector<std::string> gold_positions = {"random"};                // among the reader's passages, of always
  bool same_article = true;  // passages of the gold passage's article come first among those of other questions
  bool no_passages = true, other_passages = true;  // controls: none, and as many of another question
  // Questions of other clusters with their answers, before the question; none of them contains an answer to it.
  int64_t demonstrations = 0;
  bool demonstration_passages = false;  // each with its gold passage, in the decoder's window
  bool unanswerable = false;            // also the questions without an answer
  int64_t questions = 100;              // of each set, in an order of the seed; 0: all
  int64_t max_tokens = 32;              // of an answer
  uint64_t seed = 1;
  int64_t decoder_window = 0;  // tokens; questions that do not fit in it in every setting are left out
  // Of the prompt that the decoder would read. Thread-safe.
  std::function<int64_t(const Question&)> count_tokens;
};

struct QuestionSetting {
  int64_t decoder = 0, encoder = 0;  // passages
  GoldPassage gold = GoldPassage::always;
  PassageReader reader = PassageReader::encoder;
  std::string position = "first";
  bool other = false;  // the control: another question's passages

  int64_t passages() const { return decoder + encoder; }
  int64_t of(PassageReader who) const { return who == PassageReader::encoder ? encoder : decoder; }
};

// "no passages", "encoder 5, gold first", "decoder 10 + encoder 5, gold in the encoder, first", "encoder 5, no gold",
// "encoder 5, as retrieved", "encoder 5, another question's".
std::string setting_name(const QuestionSetting& setting);

// Where the first of `golds` gold passages stands among its reader's, from 0: all of them have a place.
int64_t gold_place(const QuestionSetting& setting, int64_t golds, KeyedRandom random);

// All settings that the options ask for, each name once; "no passages" first. Error where a
// position is beyond the passages of its reader.
std::vector<QuestionSetting> question_settings(const QuestionTaskOptions& options);

}  // namespace cepe
