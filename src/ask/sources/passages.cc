#include "ask/sources/passages.h"

#include <algorithm>
#include <unordered_set>

#include "ask/sources/sentences.h"
#include "text/word_runs.h"

namespace cepe {
namespace {

// Bytes a token is an estimate of a document's beginning: so that most passages fit a chunk whole.
constexpr double kFilled = 0.9;

bool overlap(const AskPlace& a, const AskPlace& b) {
  return a.text == b.text && a.begin < b.begin + b.size && b.begin < a.begin + a.size;
}

}  // namespace

AskPassages::AskPassages(const AskCorpus& corpus, const Options& options) : corpus_(corpus) {
  if (options.most <= 0) return;
  for (size_t text = 0; text < static_cast<size_t>(corpus.documents()); ++text) {
    if (corpus.has_share(text)) cut(text, options);
  }
  thin(static_cast<size_t>(options.most));
  std::vector<AskPlace> kept;
  for (const AskPlace& place : places_) {
    const std::string_view passage = corpus.text(place);
    if (corpus.is_refused(passage)) {
      ++refused_;
      continue;
    }
    index_.add(passage);
    kept.push_back(place);
  }
  places_ = std::move(kept);
}

void AskPassages::cut(size_t text, const Options& options) {
  const std::string_view all = corpus_.text(text);
  const auto most = static_cast<size_t>(
      std::max(16.0, kFilled * static_cast<double>(options.passage_tokens) * corpus_.bytes_a_token(text)));
  size_t begin = 0, end = 0;  // of the passage so far
  const auto finish = [&] {
    const std::string_view piece = trimmed(all.substr(begin, end - begin));
    if (!piece.empty()) places_.push_back({text, static_cast<size_t>(piece.data() - all.data()), piece.size()});
    begin = end;
  };
  for (std::string_view sentence : split_sentences(all)) {
    if (end - begin + sentence.size() > most) finish();
    while (sentence.size() > most) {  // a long line is cut between words, or else between characters
      const size_t part = first_words(sentence, most).size();
      end += part;
      finish();
      sentence.remove_prefix(part);
    }
    end += sentence.size();
  }
  finish();
}

void AskPassages::thin(size_t most) {
  const size_t count = places_.size();
  if (count <= most) return;
  for (size_t i = 0; i < most; ++i) places_[i] = places_[i * count / most];
  places_.resize(most);
}

std::vector<AskPlace> AskPassages::find(const Query& query, size_t count) const {
  constexpr size_t kMore = 16;  // found beside those that are wanted: some are left out
  const WordRuns scored(corpus_.text(query.scored));
  for (size_t asked = count + kMore;; asked *= 4) {  // until enough are left, or no more are found
    const std::vector<size_t> found = index_.search(query.words, asked);
    std::vector<AskPlace> best;
    std::unordered_set<std::string_view> taken;
    for (const size_t passage : found) {
      const AskPlace& place = places_[passage];
      if (best.size() == count) break;
      if (overlap(place, query.scored) || (!query.validation && corpus_.for_validation(place.text))) continue;
      if (scored.holds_part_of(WordRuns(corpus_.text(place))) || !taken.insert(corpus_.text(place)).second) continue;
      best.push_back(place);
    }
    if (best.size() == count || found.size() < asked) return best;
  }
}

}  // namespace cepe
