// Words as an index's FTS5 table takes them from texts.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "retrieval/sqlite.h"

namespace cepe {

class FtsWords {
 public:
  // rule: IndexDescription::words. The database must outlive the object.
  FtsWords(const Database& database, const std::string& rule);
  ~FtsWords();
  FtsWords(const FtsWords&) = delete;
  FtsWords& operator=(const FtsWords&) = delete;

  // Of a text, in order: in lower case, without accents, perhaps stems.
  std::vector<std::string> of(std::string_view text) const;
  // The mean number of words of all passages. `expression`: of FTS5, one that some passage matches.
  double mean_count(std::string_view expression) const;

 private:
  const Database& database_;
  struct Tokenizer;
  std::unique_ptr<Tokenizer> tokenizer_;
};

}  // namespace cepe
