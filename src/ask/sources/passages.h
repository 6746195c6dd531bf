// The corpus as passages that a search finds (BM25): what kind `retrieved` puts into contexts.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "ask/sources/corpus.h"
#include "text/bm25.h"

namespace cepe {

class AskPassages {
 public:
  struct Options {
    // At most, about: a passage is as many whole sentences and lines as that holds, or a part of a longer one.
    int64_t passage_tokens = 256;
    int64_t most = 0;  // where the corpus has more, so many spread evenly over it; 0: none
  };
  // Cuts all documents of domains that have a share. Passages that share too much with the refused texts are left out,
  // and counted. The corpus must outlive them. The same passages for the same corpus and options.
  AskPassages(const AskCorpus& corpus, const Options& options);

  struct Query {
    std::string_view words;   // what is searched by
    AskPlace scored;          // what the decoder reads
    bool validation = false;  // the decoder's text is a document of validation
  };
  // The best passages by Bm25Index::search(), best first, at most `count`. Left out are: what overlaps the scored place
  // or shares a run of eight words with it (WordRuns), a text that was found already, and, but in validation, documents
  // that are for validation. Thread-safe.
  std::vector<AskPlace> find(const Query& query, size_t count) const;

  size_t size() const { return places_.size(); }
  const AskPlace& place(size_t passage) const { return places_[passage]; }
  int64_t refused() const { return refused_; }

 private:
  void cut(size_t text, const Options& options);
  void thin(size_t most);

  const AskCorpus& corpus_;
  std::vector<AskPlace> places_;
  Bm25Index index_;
  int64_t refused_ = 0;
};

}  // namespace cepe
