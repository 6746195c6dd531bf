#include "eval/perplexity.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <random>
#include <set>
#include <span>

#include "base/error.h"
#include "base/report.h"
#include "context/context.h"
#include "context/encode_context.h"
#include "eval/windows.h"
#include "ops/ops.h"
#include "speed/meter.h"

namespace cepe {
namespace {

std::string tokens_text(int64_t count) { return format_count(static_cast<uint64_t>(count)); }

int64_t longest_context(const PerplexityOptions& options) { return options.context_tokens.back(); }

// Which contexts go through the encoder, and which fit into the decoder's own window.
struct Contexts {
  std::vector<int64_t> own, encoded, window;
};

Contexts contexts_of(const Cepe& model, const PerplexityOptions& options) {
  Contexts contexts;
  for (int64_t n : options.context_tokens) {
    if (n == 0 || model.encoder) contexts.own.push_back(n);
    if (n > 0 && model.encoder) contexts.encoded.push_back(n);
    const bool fits = n + options.decoder_tokens <= decoder_window(model.config.decoder);
    if (n > 0 && options.full_window && fits) contexts.window.push_back(n);
  }
  return contexts;
}

// Whose text the context is. Each has a row through the encoder and one in the decoder's own window.
struct Reader {
  Control encoded, full_window;
};
constexpr Reader kOwn{Control::own, Control::full_window};
constexpr Reader kReaders[] = {kOwn,
                               {Control::other_document, Control::full_window_other},
                               {Control::same_source, Control::full_window_same_source}};

// Where the reader's context of a window ends; none where the window has no such control.
std::optional<ContextPlace> place_of(const Window& window, const Reader& reader) {
  if (reader.encoded == Control::other_document) return window.other;
  if (reader.encoded == Control::same_source) return window.same_source;
  return ContextPlace{window.document, window.start};
}

// Windows that are scored together. Either all of them have a control or none.
struct Batch {
  const std::vector<TokenDocument>& documents;
  std::span<const Window> windows;
  size_t first;  // index of the first one among the windows of all domains
  at::Device device;

  bool has(const Reader& reader) const { return place_of(windows.front(), reader).has_value(); }
  // Tokens [-far, -near) of each window's context, counted back from its end. (B, far - near)
  at::Tensor context(const Reader& reader, int64_t far, int64_t near) const {
    return rows(far - near, [&](const Window& window) {
      const ContextPlace place = *place_of(window, reader);
      return documents[place.document].tokens.data() + place.end - far;
    });
  }
  // Tokens [first, first + count) counted from the decoder's first. (B, count)
  at::Tensor text(int64_t first, int64_t count) const {
    return rows(count,
                [&](const Window& window) { return documents[window.document].tokens.data() + window.start + first; });
  }

 private:
  template <typename Begin>
  at::Tensor rows(int64_t count, Begin begin) const {
    at::Tensor ids = at::empty({static_cast<int64_t>(windows.size()), count}, at::kLong);
    int64_t* out = ids.mutable_data_ptr<int64_t>();
    for (const Window& window : windows) out = std::copy_n(begin(window), count, out);
    return ids.to(device);
  }
};

// Latents of longer and longer contexts, each chunk encoded once: the buffer of the longest context fills from its end.
// No Context: the windows of a batch are encoded and decoded together, and their contexts share nothing but the length
// of their chunks. Joined from pieces they would be copied at every length.
class GrowingContext {
 public:
  GrowingContext(const Cepe& model, const Batch& batch, const Reader& reader, int64_t longest)
      : model_(model), batch_(batch), reader_(reader), longest_(longest) {}

  // The n most recent tokens' latents, a view of the buffer. n may only grow.
  Latents extend(int64_t n) {
    const int64_t B = static_cast<int64_t>(batch_.windows.size()), L = context_chunk_length(model_.config);
    if (n > tokens_) {
      const Latents piece = encode(model_, {batch_.context(reader_, n, tokens_).view({B, (n - tokens_) / L, L}), {}});
      if (!buffer_.defined()) buffer_ = at::empty({B, longest_, piece.states_BSE.size(2)}, piece.states_BSE.options());
      buffer_.narrow(1, longest_ - n, n - tokens_).copy_(piece.states_BSE);
      tokens_ = n;
    }
    if (n == 0) return {};
    return {buffer_.narrow(1, longest_ - n, n), {}};
  }

 private:
  const Cepe& model_;
  const Batch& batch_;
  const Reader& reader_;
  int64_t longest_, tokens_ = 0;
  at::Tensor buffer_;  // (B, longest, E)
};

// The chunks in another order, the same for every window.
Latents shuffled(const Latents& latents, int64_t chunk_length) {
  std::vector<TokenRange> order;
  for (int64_t first = 0; first < latents.tokens(); first += chunk_length) order.push_back({first, chunk_length});
  std::mt19937_64 random(order.size());
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random() % i]);
  return select_tokens(latents, order);
}

// Scores the windows of one domain, batch by batch, into its rows.
class DomainScorer {
 public:
  DomainScorer(const Cepe& model, const PerplexityOptions& options, const DomainWindows& domain)
      : model_(model),
        options_(options),
        contexts_(contexts_of(model, options)),
        domain_(domain),
        meter_(model.device()) {
    const bool other = domain.has_other();
    const bool same = options.same_source && std::any_of(domain.windows.begin(), domain.windows.end(),
                                                         [](const Window& w) { return w.same_source.has_value(); });
    add_rows(Control::own, contexts_.own);
    if (options.other_document && other) add_rows(Control::other_document, contexts_.encoded);
    if (same) add_rows(Control::same_source, contexts_.encoded);
    if (options.shuffled) add_rows(Control::shuffled, contexts_.encoded);
    add_rows(Control::full_window, contexts_.window);
    if (other) add_rows(Control::full_window_other, contexts_.window);
    if (same) add_rows(Control::full_window_same_source, contexts_.window);
  }

  // Tokens that go through the decoder or the encoder for all windows, roughly; the unit of progress.
  int64_t work() const {
    int64_t total = 0;
    for (const ScoredRow& row : rows_) {
      const bool same = row.control == Control::same_source || row.control == Control::full_window_same_source;
      const auto windows = std::count_if(domain_.windows.begin(), domain_.windows.end(),
                                         [&](const Window& w) { return !same || w.same_source.has_value(); });
      total += windows * work_of(row);
    }
    return total;
  }

  // `advance` is told the work done.
  void score(const Batch& batch, const std::function<void(int64_t)>& advance) {
    advance_ = &advance;
    first_ = batch.first;
    labels_ = batch.text(options_.decoder_tokens - options_.scored_tokens + 1, options_.scored_tokens);
    ids_ = batch.text(0, options_.decoder_tokens);
    if (!contexts_.own.empty()) {
      meter_.start();
      below_ = decode_below(model_, ids_);
      below_cost_ = meter_.stop();
      score_encoded(batch, kOwn, contexts_.own);
      for (const Reader& reader : std::span(kReaders).subspan(1)) {
        if (has_row(reader.encoded) && batch.has(reader)) score_encoded(batch, reader, contexts_.encoded);
      }
      below_.reset();
    }
    for (int64_t n : contexts_.window) {
      for (const Reader& reader : kReaders) {
        if (has_row(reader.full_window) && batch.has(reader)) score_window(batch, reader, n);
      }
    }
  }

  std::vector<ScoredRow> take_rows() { return std::move(rows_); }

 private:
  void add_rows(Control control, const std::vector<int64_t>& contexts) {
    for (int64_t n : contexts) rows_.push_back({domain_.domain, n, control, {}, {}, 0, 0});
  }
  ScoredRow* find_row(Control control, int64_t n) {
    for (ScoredRow& row : rows_) {
      if (row.control == control && row.context_tokens == n) return &row;
    }
    return nullptr;
  }
  bool has_row(Control control) const {
    return std::any_of(rows_.begin(), rows_.end(), [&](const ScoredRow& row) { return row.control == control; });
  }
  int64_t work_of(const ScoredRow& row) const { return options_.decoder_tokens + row.context_tokens; }

  void score_encoded(const Batch& batch, const Reader& reader, const std::vector<int64_t>& contexts) {
    GrowingContext growing(model_, batch, reader, contexts.back());
    Cost before = below_cost_;  // with all the chunks so far: what a run with this context alone would spend
    for (int64_t n : contexts) {
      meter_.start();
      const Latents latents = growing.extend(n), kept = as_kept(latents);
      const Cost added = meter_.stop();
      before = {before.seconds + added.seconds, std::max(before.peak_bytes, added.peak_bytes)};
      score_row(*find_row(reader.encoded, n), reading(kept), before);
      if (ScoredRow* row = reader.encoded == Control::own ? find_row(Control::shuffled, n) : nullptr) {
        const Latents mixed = as_kept(shuffled(latents, context_chunk_length(model_.config)));
        score_row(*row, reading(mixed), before);
      }
    }
  }

  Latents as_kept(const Latents& latents) const { return options_.int8_latents ? quantize(latents) : latents; }

  DecodeInput reading(const Latents& latents) const {
    return {.ids_BT = ids_, .context = &latents, .last = options_.scored_tokens, .below_BTD = below_};
  }

  void score_window(const Batch& batch, const Reader& reader, int64_t n) {
    const at::Tensor ids = at::cat({batch.context(reader, n, 0), batch.text(0, options_.decoder_tokens)}, 1);
    score_row(*find_row(reader.full_window, n), {.ids_BT = ids, .last = options_.scored_tokens}, {});
  }

  void score_row(ScoredRow& row, const DecodeInput& input, const Cost& before) {
    meter_.start();
    const int64_t B = labels_.size(0), scored = options_.scored_tokens;
    const at::Tensor hidden = decode(model_, input).flatten(0, 1);
    const at::Tensor nll = linear_cross_entropy(hidden, head_weight(model_), labels_.reshape({B * scored}));
    const at::Tensor means = nll.view({B, scored}).to(at::kDouble).mean(1).cpu();
    const Cost decoding = meter_.stop();
    row.nll.insert(row.nll.end(), means.const_data_ptr<double>(), means.const_data_ptr<double>() + B);
    for (int64_t b = 0; b < B; ++b) row.windows.push_back(first_ + static_cast<size_t>(b));
    row.seconds += before.seconds + decoding.seconds;
    row.peak_bytes = std::max({row.peak_bytes, before.peak_bytes, decoding.peak_bytes});
    (*advance_)(B* work_of(row));
  }

  const Cepe& model_;
  const PerplexityOptions& options_;
  Contexts contexts_;
  const DomainWindows& domain_;
  Meter meter_;
  std::vector<ScoredRow> rows_;
  size_t first_ = 0;   // index of the batch's first window
  at::Tensor ids_;     // (B, decoder_tokens)
  at::Tensor labels_;  // (B, scored)
  at::Tensor below_;   // of ids_: the same for every context
  Cost below_cost_;
  const std::function<void(int64_t)>* advance_ = nullptr;
};

void check_vocabulary(const Cepe& model, const std::vector<TokenDocument>& documents) {
  const int64_t size = model.decoder.stack.embedding.size(0);
  for (const TokenDocument& document : documents) {
    for (TokenId id : document.tokens) {
      require(id >= 0 && id < size,
              "{}: the tokenizer does not match the model: token {} is outside its vocabulary of {}", document.name, id,
              size);
    }
  }
}

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

std::vector<std::string> control_notes(const PerplexityOptions& options, const Contexts& contexts,
                                       const std::vector<DomainWindows>& domains,
                                       const std::vector<TokenDocument>& documents) {
  std::vector<std::string> notes;
  if (options.full_window && contexts.window.empty()) {
    notes.emplace_back(
        "No context of the list fits into the decoder's own window beside its tokens: full-window is left out.");
  }
  const bool wanted = (options.other_document && !contexts.encoded.empty()) || !contexts.window.empty();
  for (const DomainWindows& domain : domains) {
    if (options.same_source) {
      std::string note = same_source_note(domain, documents, longest_context(options));
      if (!note.empty()) notes.push_back(std::move(note));
    }
    if (!wanted || domain.has_other()) continue;
    notes.push_back(
        fmt::format("{}: the control with another document needs a second document of at least {} tokens, and only "
                    "one is that long, so there is no reading gain.",
                    domain.domain, tokens_text(longest_context(options))));
  }
  return notes;
}

// A first forward pass pays for threads, kernel choice and pages of the weights; it should not be charged to the first
// row.
void warm_up(const Cepe& model, const Batch& batch, const PerplexityOptions& options) {
  const int64_t L = context_chunk_length(model.config), B = static_cast<int64_t>(batch.windows.size());
  Latents latents;
  if (model.encoder && longest_context(options) > 0)
    latents = encode(model, {batch.context(kOwn, L, 0).view({B, 1, L}), {}});
  decode(model, {batch.text(0, std::min<int64_t>(64, options.decoder_tokens)), &latents});
}

// At most `batch` of the first windows: all of them have a control, or none.
std::span<const Window> windows_together(std::span<const Window> windows, const PerplexityOptions& options,
                                         size_t batch) {
  size_t count = 1;
  while (count < std::min(batch, windows.size())) {
    const bool alike = windows[count].same_source.has_value() == windows[0].same_source.has_value();
    if (options.same_source && !alike) break;
    ++count;
  }
  return windows.first(count);
}

ScoredWindow named_window(const Window& window, const std::vector<TokenDocument>& documents) {
  const auto named = [&](const std::optional<ContextPlace>& place) -> std::optional<ControlPlace> {
    if (!place) return std::nullopt;
    return ControlPlace{documents[place->document].name, place->end};
  };
  const TokenDocument& document = documents[window.document];
  return {document.domain, document.name, window.start, named(window.other), named(window.same_source)};
}

}  // namespace

void check_perplexity_options(const Cepe& model, const PerplexityOptions& options) {
  const StackConfig& decoder = model.config.decoder;
  const auto& contexts = options.context_tokens;
  require(!contexts.empty(), "the list of context lengths is empty");
  require(contexts.front() >= 0, "context lengths cannot be negative, found {}", contexts.front());
  for (size_t i = 1; i < contexts.size(); ++i) {
    require(contexts[i] > contexts[i - 1], "context lengths must ascend, found {} after {}", contexts[i],
            contexts[i - 1]);
  }
  require(options.decoder_tokens > 0, "the decoder's tokens must be positive, found {}", options.decoder_tokens);
  require(options.decoder_tokens <= decoder_window(decoder), "{} decoder tokens exceed the decoder's window of {}",
          options.decoder_tokens, decoder_window(decoder));
  require(options.scored_tokens > 0 && options.scored_tokens <= options.decoder_tokens,
          "the scored tokens must be between 1 and the {} decoder tokens, found {}", options.decoder_tokens,
          options.scored_tokens);
  require(options.stride >= options.scored_tokens,
          "windows {} tokens apart would score tokens twice: the stride must be at least the {} scored tokens",
          options.stride, options.scored_tokens);
  require(options.windows >= 0, "the number of windows cannot be negative, found {}", options.windows);
  require(options.batch >= 0, "the batch cannot be negative, found {}", options.batch);
  if (contexts.back() == 0) {
    const char* what = options.other_document ? "other-document"
                       : options.same_source  ? "same-source"
                       : options.shuffled     ? "shuffled"
                                              : "full-window";
    require(!options.other_document && !options.same_source && !options.shuffled && !options.full_window,
            "{} needs a context, and the list of context lengths has only 0", what);
    return;
  }
  if (!model.encoder) {
    require(options.full_window && !options.other_document && !options.shuffled,
            "this model has no encoder and cannot read a context: only a context length of 0 can be measured, or full "
            "attention, which reads another document too; beside it only the control same-source");
    return;
  }
  for (int64_t n : contexts) {
    require(n % context_chunk_length(model.config) == 0,
            "a context of {} tokens is not a whole number of chunks of {} tokens", n,
            context_chunk_length(model.config));
  }
}

PerplexityScores score_windows(const Cepe& model, const std::vector<TokenDocument>& documents,
                               const PerplexityOptions& options) {
  check_perplexity_options(model, options);
  check_vocabulary(model, documents);
  const bool any_source = std::any_of(documents.begin(), documents.end(),
                                      [](const TokenDocument& document) { return !document.source.empty(); });
  require(
      !options.same_source || any_source,
      "same-source: expected documents that name their source (\"source\" in records of a .jsonl file), found none");
  const at::NoGradGuard no_grad;
  WindowPlan plan =
      place_windows(documents, {options.decoder_tokens, longest_context(options), options.stride, options.windows});
  PerplexityScores scores;
  scores.notes = std::move(plan.notes);
  for (std::string& note : control_notes(options, contexts_of(model, options), plan.domains, documents)) {
    scores.notes.push_back(std::move(note));
  }
  std::vector<DomainScorer> scorers;
  int64_t total = 0, done = 0;
  for (const DomainWindows& domain : plan.domains) {
    scorers.emplace_back(model, options, domain);
    total += scorers.back().work();
  }
  const std::function<void(int64_t)> advance = [&](int64_t work) {
    done += work;
    if (options.progress) options.progress(done, total);
  };
  const size_t batch = static_cast<size_t>(options.batch > 0 ? options.batch : model.device().is_cpu() ? 1 : 8);
  warm_up(model, {documents, std::span(plan.domains.front().windows).first(1), 0, model.device()}, options);
  for (size_t d = 0; d < plan.domains.size(); ++d) {
    const std::vector<Window>& windows = plan.domains[d].windows;
    for (size_t i = 0; i < windows.size();) {
      const std::span<const Window> together = windows_together(std::span(windows).subspan(i), options, batch);
      scorers[d].score({documents, together, scores.windows.size(), model.device()}, advance);
      for (const Window& window : together) scores.windows.push_back(named_window(window, documents));
      i += together.size();
    }
    for (ScoredRow& row : scorers[d].take_rows()) scores.rows.push_back(std::move(row));
  }
  return scores;
}

}  // namespace cepe
