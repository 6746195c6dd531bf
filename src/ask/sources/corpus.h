// The plain texts that samples are made of, in memory.
#pragma once

#include <atomic>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "ask/random.h"
#include "ask/sources/shingles.h"
#include "text/tokenizer/tokenizer.h"

namespace cepe {

// A document of a sample's context.
struct AskDocument {
  std::string title;  // may be empty
  std::string text;
};

// Which documents may be drawn. One in kValidationPart is for validation alone.
struct AskDraw {
  bool validation = false;
  bool encyclopaedic = false;  // from the domains named so, from the beginning of a document on
  int64_t tokens = 0;          // wanted, about
};

class AskCorpus {
 public:
  static constexpr size_t kValidationPart = 40;

  struct Options {
    std::vector<std::filesystem::path> files;     // text_file.h
    std::map<std::string, double> domain_shares;  // of domains; one that is not named has 1
    std::vector<std::string> encyclopaedic;       // domains whose documents are articles about what they are called
    int64_t max_shared = 8;                       // shingles that an excerpt may share with `refused`
  };
  // Reads all files. Error where there is no text, or a domain has a share and no document.
  AskCorpus(const Options& options, const ShingleSet& refused, const Tokenizer& tokenizer);

  // Excerpts of as many tokens as wanted together, about; each begins and ends with a sentence or line. Those that
  // share too much with the refused texts are drawn again, and counted.
  std::vector<AskDocument> draw(AskRandom& random, const AskDraw& wanted) const;
  bool has(const AskDraw& wanted) const;

  int64_t documents() const { return static_cast<int64_t>(texts_.size()); }
  int64_t bytes() const { return bytes_; }
  int64_t refused() const { return refused_count_; }

 private:
  struct Text {
    std::string title, text;
    double bytes_a_token = 4;
  };
  struct Domain {
    std::string name;
    double share = 1;
    bool encyclopaedic = false;
    std::vector<size_t> training, validation;  // indices of texts_
  };
  void read(const std::filesystem::path& path, const Tokenizer& tokenizer);
  const Text* draw_text(AskRandom& random, const AskDraw& wanted) const;
  AskDocument excerpt(const Text& text, AskRandom& random, const AskDraw& wanted) const;

  std::vector<Text> texts_;
  std::vector<Domain> domains_;
  std::map<std::string, size_t> domain_index_;
  const ShingleSet& refused_;
  int64_t max_shared_, bytes_ = 0;
  mutable std::atomic<int64_t> refused_count_{0};
};

}  // namespace cepe
