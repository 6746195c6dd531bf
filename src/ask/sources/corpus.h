// The plain texts that samples are made of, in memory or in a file.
#pragma once

#include <atomic>
#include <deque>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ask/random.h"
#include "ask/sources/shingles.h"
#include "base/scratch_file.h"
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

// A part of a document, in bytes.
struct AskPlace {
  size_t text = 0;  // the document's number
  size_t begin = 0, size = 0;
};

class AskCorpus {
 public:
  static constexpr size_t kValidationPart = 40;

  struct Options {
    std::vector<std::filesystem::path> files;     // text_file.h
    std::map<std::string, double> domain_shares;  // of domains; one that is not named has 1
    std::vector<std::string> encyclopaedic;       // domains whose documents are articles about what they are called
    int64_t max_shared = 8;                       // shingles that an excerpt may share with `refused`
    // A directory: texts stand in a temporary file there (base/scratch_file.h). Empty: in memory.
    std::filesystem::path scratch = {};
  };
  // Reads all files. Error where there is no text, a domain has a share and no document, or the temporary file cannot
  // be made or written.
  AskCorpus(const Options& options, const ShingleSet& refused, const Tokenizer& tokenizer);

  // Excerpts of as many tokens as wanted together, about; each begins and ends with a sentence or line. Those that
  // share too much with the refused texts are drawn again, and counted.
  std::vector<AskDocument> draw(AskRandom& random, const AskDraw& wanted) const;
  bool has(const AskDraw& wanted) const;
  // One such excerpt by its place. Nothing where the draw gave none, or one that shares too much with the refused
  // texts, which is counted.
  std::optional<AskPlace> draw_place(AskRandom& random, const AskDraw& wanted) const;

  // Of document `text`, from 0 in the order of the files.
  std::string_view text(size_t text) const { return texts_[text].text; }
  std::string_view text(const AskPlace& place) const { return text(place.text).substr(place.begin, place.size); }
  double bytes_a_token(size_t text) const { return texts_[text].bytes_a_token; }
  bool for_validation(size_t text) const { return texts_[text].validation; }
  bool has_share(size_t text) const { return domains_[texts_[text].domain].share > 0; }
  bool is_refused(std::string_view text) const { return refused_.shared(text) > max_shared_; }

  int64_t documents() const { return static_cast<int64_t>(texts_.size()); }
  int64_t bytes() const { return bytes_; }
  int64_t refused() const { return refused_count_; }

 private:
  struct Text {
    std::string title;
    std::string_view text;
    double bytes_a_token = 4;
    size_t domain = 0;  // index of domains_
    bool validation = false;
  };
  struct Domain {
    std::string name;
    double share = 1;
    bool encyclopaedic = false;
    std::vector<size_t> training, validation;  // indices of texts_
  };
  void read(const std::filesystem::path& path, const Tokenizer& tokenizer);
  size_t draw_text(AskRandom& random, const AskDraw& wanted) const;
  AskPlace excerpt(size_t number, AskRandom& random, const AskDraw& wanted) const;

  void keep(std::string text);
  void keep_whole();

  std::vector<Text> texts_;
  std::deque<std::string> held_;        // the texts, or
  std::optional<ScratchFile> scratch_;  // the file of them, one after another,
  std::vector<size_t> sizes_;           // and their sizes
  std::vector<Domain> domains_;
  std::map<std::string, size_t> domain_index_;
  const ShingleSet& refused_;
  int64_t max_shared_, bytes_ = 0;
  mutable std::atomic<int64_t> refused_count_{0};
};

}  // namespace cepe
