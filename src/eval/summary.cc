// From the losses of all rows to perplexities and comparisons.
#include <algorithm>
#include <iterator>
#include <map>
#include <set>

#include "eval/perplexity.h"

namespace cepe {
namespace {

using Place = std::optional<ControlPlace> ScoredWindow::*;

int64_t documents_of(const PerplexityScores& scores, const std::vector<size_t>& windows) {
  std::set<std::string> documents;
  for (const size_t window : windows) documents.insert(scores.windows[window].document);
  return static_cast<int64_t>(documents.size());
}

// Rows on the windows that all of them have.
class PairedRows {
 public:
  PairedRows(const PerplexityScores& scores, const std::vector<const ScoredRow*>& rows) : scores_(scores) {
    windows_ = rows.front()->windows;
    for (const ScoredRow* row : rows) {
      std::vector<size_t> both;
      std::set_intersection(windows_.begin(), windows_.end(), row->windows.begin(), row->windows.end(),
                            std::back_inserter(both));
      windows_ = std::move(both);
    }
  }
  bool empty() const { return windows_.empty(); }

  std::vector<double> losses(const ScoredRow& row) const {
    std::vector<double> nll;
    for (size_t window : windows_) {
      const auto at = std::lower_bound(row.windows.begin(), row.windows.end(), window) - row.windows.begin();
      nll.push_back(row.nll[static_cast<size_t>(at)]);
    }
    return nll;
  }
  // By the windows' documents, and where a control is given by the documents of its contexts too.
  Clusterings clusters(Place control = nullptr) const {
    Clusterings clusters;
    clusters.push_back(ids([](const ScoredWindow& window) { return window.document; }));
    if (control) clusters.push_back(ids([&](const ScoredWindow& window) { return (window.*control)->document; }));
    return clusters;
  }
  PairedEstimate counted(const Estimate& estimate) const {
    return {estimate, static_cast<int64_t>(windows_.size()), documents_of(scores_, windows_)};
  }

 private:
  template <typename Name>
  std::vector<int64_t> ids(Name name) const {
    std::map<std::string, int64_t> known;
    std::vector<int64_t> ids;
    for (size_t window : windows_) {
      ids.push_back(known.emplace(name(scores_.windows[window]), static_cast<int64_t>(known.size())).first->second);
    }
    return ids;
  }

  const PerplexityScores& scores_;
  std::vector<size_t> windows_;  // ascending
};

// The rows that one row is compared with.
class Comparisons {
 public:
  Comparisons(const PerplexityScores& scores, const ScoredRow& row) : scores_(scores), row_(row) {}

  bool has(const Reading& reading, int64_t context_tokens) const { return find(reading, context_tokens) != nullptr; }

  std::optional<PairedEstimate> change(const Reading& reference, int64_t context_tokens) const {
    const ScoredRow* against = find(reference, context_tokens);
    if (!against || against == &row_) return std::nullopt;
    const PairedRows pairs(scores_, {&row_, against});
    if (pairs.empty()) return std::nullopt;
    return pairs.counted(perplexity_change(pairs.losses(row_), pairs.losses(*against), pairs.clusters()));
  }

  std::optional<PairedEstimate> gain(Control control, Place place) const {
    const ScoredRow* against = find({row_.reading.reader, control}, row_.context_tokens);
    if (!against) return std::nullopt;
    const PairedRows pairs(scores_, {&row_, against});
    if (pairs.empty()) return std::nullopt;
    const std::vector<double> own = pairs.losses(row_), other = pairs.losses(*against);
    return pairs.counted(reading_gain({own, other}, pairs.clusters(place)));
  }

  // The row's gain over a control less full attention's over the same control.
  std::optional<PairedEstimate> gain_beyond_full_attention(Control control, Place place) const {
    const int64_t n = row_.context_tokens;
    const ScoredRow *other = find({row_.reading.reader, control}, n), *full = find({kFullReader, Control::own}, n),
                    *full_other = find({kFullReader, control}, n);
    if (!other || !full || !full_other) return std::nullopt;
    const PairedRows pairs(scores_, {&row_, other, full, full_other});
    if (pairs.empty()) return std::nullopt;
    const std::vector<double> own = pairs.losses(row_), own_other = pairs.losses(*other), theirs = pairs.losses(*full),
                              theirs_other = pairs.losses(*full_other);
    return pairs.counted(gain_difference({own, own_other}, {theirs, theirs_other}, pairs.clusters(place)));
  }

 private:
  const ScoredRow* find(const Reading& reading, int64_t context_tokens) const {
    for (const ScoredRow& row : scores_.rows) {
      if (row.domain == row_.domain && row.reading == reading && row.context_tokens == context_tokens) return &row;
    }
    return nullptr;
  }

  const PerplexityScores& scores_;
  const ScoredRow& row_;
};

PerplexityRow summary_of(const PerplexityScores& scores, const ScoredRow& scored) {
  PerplexityRow row{.scored = scored, .perplexity = perplexity(scored.nll)};
  row.documents = documents_of(scores, scored.windows);

  const Comparisons compare(scores, scored);
  const Reading own{scored.reading.reader, Control::own};
  row.change = compare.change(compare.has(own, 0) ? own : Reading{kCepeReader, Control::own}, 0);
  if (scored.reading.control != Control::own) return row;
  row.reading_gain = compare.gain(Control::other_document, &ScoredWindow::other);
  row.same_source_gain = compare.gain(Control::same_source, &ScoredWindow::same_source);
  const bool others = scored.reading.reader != kCepeReader && scored.context_tokens > 0;
  if (others) row.against_cepe = compare.change({kCepeReader, Control::own}, scored.context_tokens);
  if (scored.reading.reader == kFullReader) return row;
  row.against_full_attention = compare.change({kFullReader, Control::own}, scored.context_tokens);
  row.reading_gain_difference = compare.gain_beyond_full_attention(Control::other_document, &ScoredWindow::other);
  row.same_source_gain_difference =
      compare.gain_beyond_full_attention(Control::same_source, &ScoredWindow::same_source);
  return row;
}

}  // namespace

PerplexityRecord summarise(const PerplexityScores& scores, const std::string& model_name,
                           const PerplexityOptions& options) {
  PerplexityRecord record{model_name, options.decoder_tokens, options.scored_tokens, scores.windows, {}};
  for (const ScoredRow& row : scores.rows) record.rows.push_back(summary_of(scores, row));
  return record;
}

}  // namespace cepe
