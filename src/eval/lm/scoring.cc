#include "eval/lm/scoring.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/report.h"
#include "context/encode_context.h"
#include "eval/windows.h"
#include "model/additions.h"

namespace cepe {
namespace {

// Which windows the control of the same source leaves out, and why; empty where it leaves none out.
std::string same_source_note(const DomainWindows& domain, const std::vector<TokenDocument>& documents,
                             int64_t longest_context) {
  std::set<size_t> all, alone, nameless;
  for (const Window& window : domain.windows) {
    all.insert(window.document);
    if (window.same_source) continue;
    (documents[window.document].source.empty() ? nameless : alone).insert(window.document);
  }
  if (alone.empty() && nameless.empty()) return {};
  return fmt::format(
      "{}: the control of the same source leaves out {} of {} documents: {} because no second document of the source "
      "has {} tokens, {} because they name no source.",
      domain.domain, alone.size() + nameless.size(), all.size(), alone.size(), tokens_text(longest_context),
      nameless.size());
}

std::optional<ControlPlace> named(const std::optional<ContextPlace>& place,
                                  const std::vector<TokenDocument>& documents) {
  if (!place) return std::nullopt;
  return ControlPlace{documents[place->document].name, place->end};
}

}  // namespace

void check_vocabulary(const Cepe& model, const std::vector<TokenDocument>& documents, const std::string& name) {
  const int64_t size = readable_tokens(model.config);
  for (const TokenDocument& document : documents) {
    for (TokenId id : document.tokens) {
      require(id >= 0 && id < size, "{}: the tokenizer does not match {}: token {} is outside its vocabulary of {}",
              document.name, name, id, size);
    }
  }
}

WindowScoring::WindowScoring(const Cepe& model, const std::vector<TokenDocument>& documents,
                             const PerplexityOptions& options, std::vector<NamedReader> readers)
    : model_(model), documents_(documents), options_(options), readers_(std::move(readers)) {
  check_vocabulary(model, documents, "the model");
  const bool any_source = std::any_of(documents.begin(), documents.end(),
                                      [](const TokenDocument& document) { return !document.source.empty(); });
  require(
      !options.same_source || any_source,
      "same-source: expected documents that name their source (\"source\" in records of a .jsonl file), found none");
  plan_ = place_windows(documents,
                        {options.decoder_tokens, options.context_tokens.back(), options.stride, options.windows});
  notes_ = plan_.notes;
  size_t windows = 0;
  for (size_t d = 0; d < plan_.domains.size(); ++d) {
    first_window_.push_back(windows);
    add_rows(d);
    add_groups(d, windows);
    add_control_notes(plan_.domains[d]);
    windows += plan_.domains[d].windows.size();
  }
}

void WindowScoring::add_rows(size_t d) {
  const DomainWindows& domain = plan_.domains[d];
  const bool same = std::any_of(domain.windows.begin(), domain.windows.end(),
                                [](const Window& window) { return window.same_source.has_value(); });
  for (size_t r = 0; r < readers_.size(); ++r) {
    const NamedReader& named = readers_[r];
    const auto add = [&](Control control) {
      for (const int64_t n : options_.context_tokens) {
        if (named.reader->reads(n) && (n > 0 || control == Control::own)) rows_.push_back({d, r, control, n});
      }
    };
    add(Control::own);
    if (named.other_document && domain.has_other()) add(Control::other_document);
    if (named.same_source && same) add(Control::same_source);
    if (named.shuffled) add(Control::shuffled);
  }
}

// At most a batch of windows that follow each other: all of them have a control, or none.
void WindowScoring::add_groups(size_t d, size_t first_window) {
  const std::vector<Window>& windows = plan_.domains[d].windows;
  const auto most = static_cast<size_t>(options_.batch > 0 ? options_.batch : model_.device().is_cpu() ? 1 : 8);
  for (size_t first = 0; first < windows.size();) {
    size_t size = 1;
    while (size < most && first + size < windows.size()) {
      const bool alike = windows[first + size].same_source.has_value() == windows[first].same_source.has_value();
      if (options_.same_source && !alike) break;
      ++size;
    }
    groups_.push_back({d, first_window + first, size});
    first += size;
  }
}

void WindowScoring::add_control_notes(const DomainWindows& domain) {
  const int64_t longest = options_.context_tokens.back();
  if (options_.same_source) {
    std::string note = same_source_note(domain, documents_, longest);
    if (!note.empty()) notes_.push_back(std::move(note));
  }
  const bool wanted = std::any_of(readers_.begin(), readers_.end(), [&](const NamedReader& named) {
    const auto reads = [&](int64_t n) { return n > 0 && named.reader->reads(n); };
    return named.other_document && std::any_of(options_.context_tokens.begin(), options_.context_tokens.end(), reads);
  });
  if (!wanted || domain.has_other()) return;
  notes_.push_back(
      fmt::format("{}: the control with another document needs a second document of at least {} tokens, and only "
                  "one is that long, so there is no reading gain.",
                  domain.domain, tokens_text(longest)));
}

PerplexityScores WindowScoring::empty_scores() const {
  PerplexityScores scores;
  for (const DomainWindows& domain : plan_.domains) {
    for (const Window& window : domain.windows) {
      scores.windows.push_back({domain.domain, documents_[window.document].name, window.start,
                                named(window.other, documents_), named(window.same_source, documents_)});
    }
  }
  for (const Row& row : rows_) {
    scores.rows.push_back(
        {plan_.domains[row.domain].domain, row.context_tokens, {readers_[row.reader].name, row.control}, {}, {}});
  }
  scores.notes = notes_;
  return scores;
}

const Window& WindowScoring::window(size_t index) const {
  const auto after = std::upper_bound(first_window_.begin(), first_window_.end(), index);
  const auto domain = static_cast<size_t>(after - first_window_.begin()) - 1;
  return plan_.domains[domain].windows[index - first_window_[domain]];
}

bool WindowScoring::has(size_t index, size_t row) const {
  const DomainWindows& domain = plan_.domains[rows_[row].domain];
  const size_t first = first_window_[rows_[row].domain];
  return index >= first && index < first + domain.windows.size() &&
         place_of(domain.windows[index - first], rows_[row].control).has_value();
}

int64_t WindowScoring::work(const WindowGroup& group) const {
  int64_t tokens = 0;
  for (size_t row = 0; row < rows_.size(); ++row) {
    if (has(group.first, row)) tokens += static_cast<int64_t>(group.size) * row_tokens(row);
  }
  return tokens;
}

WindowBatch WindowScoring::batch_of(const WindowGroup& group) const {
  const std::span<const Window> windows = plan_.domains[group.domain].windows;
  return {documents_, windows.subspan(group.first - first_window_[group.domain], group.size), model_.device(),
          options_.decoder_tokens, options_.scored_tokens};
}

void WindowScoring::warm_up() const {
  const at::NoGradGuard no_grad;
  const int64_t L = context_chunk_length(model_.config);
  const WindowBatch batch = batch_of({0, 0, 1});
  Latents latents;
  if (model_.encoder && options_.context_tokens.back() > 0) {
    latents = encode(model_, {batch.context(Control::own, L, 0).view({1, 1, L}), {}});
  }
  decode(model_, {batch.text().narrow(1, 0, std::min<int64_t>(64, options_.decoder_tokens)), &latents});
  make_rotary_table(model_, options_.decoder_tokens);
  std::set<std::pair<size_t, int64_t>> prepared;
  for (const Row& row : rows_) {
    if (prepared.emplace(row.reader, row.context_tokens).second) {
      readers_[row.reader].reader->prepare(row.context_tokens);
    }
  }
}

void WindowScoring::score(const WindowGroup& group, const OnRowScores& scored) const {
  const at::NoGradGuard no_grad;
  const WindowBatch batch = batch_of(group);
  for (size_t r = 0; r < readers_.size(); ++r) {
    std::vector<WantedRow> wanted;
    for (size_t row = 0; row < rows_.size(); ++row) {
      if (rows_[row].reader != r || !has(group.first, row)) continue;
      wanted.push_back({rows_[row].control, rows_[row].context_tokens, row});
    }
    if (!wanted.empty()) readers_[r].reader->score(batch, wanted, scored);
  }
}

void add_scores(ScoredRow& row, const WindowGroup& group, const RowScores& scores) {
  row.nll.insert(row.nll.end(), scores.nll.begin(), scores.nll.end());
  for (size_t i = 0; i < group.size; ++i) row.windows.push_back(group.first + i);
  row.seconds += scores.cost.seconds;
  row.peak_bytes = std::max(row.peak_bytes, scores.cost.peak_bytes);
  row.working_bytes = std::max(row.working_bytes, scores.cost.working_bytes());
}

}  // namespace cepe
