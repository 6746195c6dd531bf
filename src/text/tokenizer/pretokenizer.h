// Pre-tokenization: cutting a text into the words that BPE then encodes one by one.
//
// A pre-tokenizer is a list of stages. Each cuts every piece the one before has left, and sees no more than that
// piece: a look-ahead ends with it, as in the reference.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer/regex.h"

namespace cepe {

// The pattern of GPT-2, which the ByteLevel pre-tokenizer applies by itself.
inline constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// What becomes of the matches of a pattern, and of the text between them.
enum class SplitBehavior {
  isolated,              // both are pieces
  removed,               // only the text between matches is kept
  merged_with_previous,  // a match belongs to the text before it
  merged_with_next,      // a match belongs to the text after it
  contiguous,            // neighbouring matches are one piece
};

enum class PrependScheme { never, first, always };

// Receives the words, in order; each is valid until the call returns.
class WordSink {
 public:
  virtual ~WordSink() = default;
  virtual void word(std::string_view word) = 0;
};

class PreTokenizer {
 public:
  // invert: the text between the matches counts as the match.
  void add_split(Regex regex, SplitBehavior behavior, bool invert);
  // Digits (Unicode numbers) apart from everything else; individually, or in runs.
  void add_digits(bool individual);
  // A space before each piece that does not begin with one.
  void add_prefix_space();
  // Spaces become `replacement`, which also goes before a piece that lacks it (first: only where the text
  // begins); then, if `split`, each replacement begins a piece.
  struct Metaspace {
    std::string replacement;
    PrependScheme scheme;
    bool split;
  };
  void add_metaspace(Metaspace metaspace);

  // at_start: the piece begins the whole text.
  void split(std::string_view text, bool at_start, RegexScratch& scratch, WordSink& sink) const;

  // No stage but the identity: a text is one word.
  bool empty() const { return stages_.empty(); }

 private:
  struct Stage {
    enum class Kind { regex, digits, prefix_space, metaspace } kind;
    SplitBehavior behavior = SplitBehavior::isolated;
    bool invert = false;
    std::optional<Regex> regex;
    Metaspace metaspace;
  };
  struct Cut;
  void run(size_t stage, std::string_view piece, bool at_start, Cut& cut) const;
  std::vector<Stage> stages_;
};

}  // namespace cepe
