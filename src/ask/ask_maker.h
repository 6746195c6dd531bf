// Samples that ask about what the encoder read, one by one: sample i is a pure function of the seed and i.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ask/ask_config.h"
#include "ask/layout.h"

namespace cepe {

enum class AskSplit : uint64_t { training, validation, held };

// What was read and what was left out.
struct AskSourceCounts {
  int64_t texts = 0, text_bytes = 0, questions = 0, passages = 0, shingles = 0;
  int64_t refused_passages = 0, refused_questions = 0;
  int64_t refused_excerpts = 0;  // so far
};

class AskMaker {
 public:
  // Reads all sources into memory: the texts take as many bytes as they have (with sources.scratch none: they stand in
  // a file), passages of question files and their index some six times theirs, the index of the texts' passages (kind
  // retrieved) some 1 kB a passage. tokenizer and chat (null: none) must outlive the maker. Error where chats are asked
  // for without a template, and where a kind with a share has no source, or none kept for validation.
  AskMaker(const AskConfig& config, const Tokenizer& tokenizer, const AskChat* chat);
  ~AskMaker();

  // Sample i of a split. Thread-safe. Validation goes in turn through the kinds that have a share, facts in held-out
  // forms ("held") among them; so i runs to validation_count(). Error where no kind can be made of the sources.
  AskSample make(AskSplit split, int64_t i) const;
  int64_t validation_count() const;

  // A question in a form that is kept out of training, as one line of JSON: "id", "question", "answers",
  // "documents" and "gold", the place of the one that got the statement.
  std::string held_question(int64_t i) const;

  AskSourceCounts counts() const;

 private:
  struct Drawn;
  struct Part;
  Drawn draw(AskSplit split, int64_t i) const;
  std::string choose_kind(AskSplit split, int64_t i, AskRandom& random) const;
  void require_sources() const;
  double share(const std::string& kind) const;
  std::vector<std::string> validation_kinds() const;
  int64_t draw_chunks(AskRandom& random) const;

  AskConfig config_;
  std::unique_ptr<Part> part_;
};

}  // namespace cepe
