// Words as an index's FTS5 table takes them from texts.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "retrieval/sqlite.h"

namespace cepe {

class FtsWords {
 public:
  // rule: IndexDescription::words. The database must outlive the object, and so must a transaction that it is made in.
  FtsWords(const Database& database, const std::string& rule);
  ~FtsWords();
  FtsWords(const FtsWords&) = delete;
  FtsWords& operator=(const FtsWords&) = delete;

  // Of a text, in order: in lower case, without accents, perhaps stems.
  std::vector<std::string> of(std::string_view text) const;
  // How many passages one of these words stands in. A word's number is kept, so that it is counted once.
  int64_t passages_with(const std::string& word) const;
  // The mean number of words of all passages. `expression`: of FTS5, one that some passage matches.
  double mean_count(std::string_view expression) const;

 private:
  const Database& database_;
  struct Tokenizer;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<Statement> count_;
  mutable std::map<std::string, int64_t> counted_;
};

}  // namespace cepe
