// Regular expressions of tokenizer files, matched by PCRE2 with the meaning they have where they were written:
// Oniguruma, which Hugging Face tokenizers uses.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace cepe {

// The same pattern in PCRE2's dialect. The two differ in what \s and \w contain, in the meaning of some escapes
// and in classes inside classes; a construct whose meaning may differ is an Error that names it.
// `where` names the pattern's place for the message.
std::string pcre2_pattern(std::string_view oniguruma, const std::string& where);

// What a search needs to write to; one a thread at a time.
class RegexScratch {
 public:
  RegexScratch();
  ~RegexScratch();
  RegexScratch(const RegexScratch&) = delete;
  RegexScratch& operator=(const RegexScratch&) = delete;

 private:
  friend class Regex;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// A compiled pattern; immutable and thread-safe.
class Regex {
 public:
  // `pattern` in Oniguruma's dialect. Throws Error when it cannot be compiled or translated.
  static Regex from_oniguruma(std::string_view pattern, const std::string& where);
  // Matches exactly this text.
  static Regex literal(std::string_view text);

  struct Match {
    size_t begin, end;
  };
  // The first match at or after `from` in valid UTF-8 text. Throws Error when matching needs more steps or
  // memory than PCRE2 allows (a pattern that backtracks without end).
  bool search(std::string_view text, size_t from, RegexScratch& scratch, Match& match) const;

 private:
  explicit Regex(const std::string& pcre2, const std::string& where);
  struct Code;
  std::shared_ptr<const Code> code_;
};

}  // namespace cepe
