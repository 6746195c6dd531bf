#include "eval/perplexity.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <set>
#include <span>

#include "base/error.h"
#include "base/report.h"
#include "eval/meter.h"
#include "eval/statistics.h"
#include "eval/windows.h"
#include "generate/prompt.h"
#include "ops/ops.h"

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

// The other document's text or the own, ending where the decoder's tokens begin.
enum class Source { own, other };

// Windows that are scored together.
struct Batch {
  const std::vector<TokenDocument>& documents;
  std::span<const Window> windows;
  at::Device device;

  // Tokens [-far, -near) of each window's context, counted back from the decoder's first token. (B, far - near)
  at::Tensor context(Source source, int64_t far, int64_t near) const {
    return rows(far - near, [&](const Window& window) {
      const bool own = source == Source::own;
      const TokenDocument& document = documents[own ? window.document : window.other_document];
      return document.tokens.data() + (own ? window.start : window.other_end) - far;
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
class GrowingContext {
 public:
  GrowingContext(const Cepe& model, const Batch& batch, Source source, int64_t longest)
      : model_(model), batch_(batch), source_(source), longest_(longest) {}

  // The n most recent tokens' latents, a view of the buffer. n may only grow.
  Latents extend(int64_t n) {
    const int64_t B = static_cast<int64_t>(batch_.windows.size()), L = context_chunk_length(model_.config);
    if (n > tokens_) {
      const Latents piece = encode(model_, {batch_.context(source_, n, tokens_).view({B, (n - tokens_) / L, L}), {}});
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
  Source source_;
  int64_t longest_, tokens_ = 0;
  at::Tensor buffer_;  // (B, longest, E)
};

// The chunks in another order, the same for every window.
Latents shuffled(const Latents& latents, int64_t chunk_length) {
  const at::Tensor& states = latents.states_BSE;
  const int64_t B = states.size(0), M = states.size(1) / chunk_length, E = states.size(2);
  std::vector<int64_t> order(static_cast<size_t>(M));
  std::iota(order.begin(), order.end(), int64_t{0});
  std::mt19937_64 random(static_cast<uint64_t>(M));
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random() % i]);
  const at::Tensor index = at::tensor(order, at::kLong).to(states.device());
  return {states.view({B, M, chunk_length, E}).index_select(1, index).view({B, M * chunk_length, E}), {}};
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
    const bool other = domain.has_other;
    add_rows(Control::own, contexts_.own);
    if (options.other_document && other) add_rows(Control::other_document, contexts_.encoded);
    if (options.shuffled) add_rows(Control::shuffled, contexts_.encoded);
    add_rows(Control::full_window, contexts_.window);
    if (other) add_rows(Control::full_window_other, contexts_.window);
  }

  // Tokens that go through the decoder or the encoder for one window, roughly; the unit of progress.
  int64_t work() const {
    int64_t total = 0;
    for (const ScoredRow& row : rows_) total += work_of(row);
    return total;
  }

  // `advance` is told the work done.
  void score(const Batch& batch, const std::function<void(int64_t)>& advance) {
    advance_ = &advance;
    for (const Window& window : batch.windows) {
      for (ScoredRow& row : rows_) row.document.push_back(static_cast<int64_t>(window.document));
    }
    labels_ = batch.text(options_.decoder_tokens - options_.scored_tokens + 1, options_.scored_tokens);
    ids_ = batch.text(0, options_.decoder_tokens);
    if (!contexts_.own.empty()) {
      meter_.start();
      below_ = decode_below(model_, ids_);
      below_cost_ = meter_.stop();
      score_encoded(batch, Source::own, contexts_.own);
      if (has_row(Control::other_document)) score_encoded(batch, Source::other, contexts_.encoded);
      below_.reset();
    }
    for (int64_t n : contexts_.window) {
      score_window(batch, Source::own, n);
      if (has_row(Control::full_window_other)) score_window(batch, Source::other, n);
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

  void score_encoded(const Batch& batch, Source source, const std::vector<int64_t>& contexts) {
    GrowingContext growing(model_, batch, source, contexts.back());
    Cost before = below_cost_;  // with all the chunks so far: what a run with this context alone would spend
    for (int64_t n : contexts) {
      meter_.start();
      const Latents latents = growing.extend(n), kept = as_kept(latents);
      const Cost added = meter_.stop();
      before = {before.seconds + added.seconds, std::max(before.peak_bytes, added.peak_bytes)};
      const bool own = source == Source::own;
      score_row(*find_row(own ? Control::own : Control::other_document, n), reading(kept), before);
      if (ScoredRow* row = own ? find_row(Control::shuffled, n) : nullptr) {
        const Latents mixed = as_kept(shuffled(latents, context_chunk_length(model_.config)));
        score_row(*row, reading(mixed), before);
      }
    }
  }

  Latents as_kept(const Latents& latents) const { return options_.int8_latents ? quantize(latents) : latents; }

  DecodeInput reading(const Latents& latents) const {
    return {.ids_BT = ids_, .context = &latents, .last = options_.scored_tokens, .below_BTD = below_};
  }

  void score_window(const Batch& batch, Source source, int64_t n) {
    const at::Tensor ids = at::cat({batch.context(source, n, 0), batch.text(0, options_.decoder_tokens)}, 1);
    score_row(*find_row(source == Source::own ? Control::full_window : Control::full_window_other, n),
              {.ids_BT = ids, .last = options_.scored_tokens}, {});
  }

  void score_row(ScoredRow& row, const DecodeInput& input, const Cost& before) {
    meter_.start();
    const int64_t B = labels_.size(0), scored = options_.scored_tokens;
    const at::Tensor hidden = decode(model_, input).flatten(0, 1);
    const at::Tensor nll = linear_cross_entropy(hidden, head_weight(model_), labels_.reshape({B * scored}));
    const at::Tensor means = nll.view({B, scored}).to(at::kDouble).mean(1).cpu();
    const Cost decoding = meter_.stop();
    row.nll.insert(row.nll.end(), means.const_data_ptr<double>(), means.const_data_ptr<double>() + B);
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

std::vector<std::string> control_notes(const PerplexityOptions& options, const Contexts& contexts,
                                       const std::vector<DomainWindows>& domains) {
  std::vector<std::string> notes;
  if (options.full_window && contexts.window.empty()) {
    notes.push_back(
        "No context of the list fits into the decoder's own window beside its tokens: full-window is left out.");
  }
  const bool wanted = (options.other_document && !contexts.encoded.empty()) || !contexts.window.empty();
  for (const DomainWindows& domain : domains) {
    if (!wanted || domain.has_other) continue;
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
    latents = encode(model, {batch.context(Source::own, L, 0).view({B, 1, L}), {}});
  decode(model, {batch.text(0, std::min<int64_t>(64, options.decoder_tokens)), &latents});
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
    const char* what = options.other_document ? "other-document" : options.shuffled ? "shuffled" : "full-window";
    require(!options.other_document && !options.shuffled && !options.full_window,
            "{} needs a context, and the list of context lengths has only 0", what);
    return;
  }
  if (!model.encoder) {
    require(options.full_window && !options.other_document && !options.shuffled,
            "this model has no encoder and cannot read a context: only a context length of 0, or full-window, can be "
            "measured");
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
  const at::NoGradGuard no_grad;
  WindowPlan plan =
      place_windows(documents, {options.decoder_tokens, longest_context(options), options.stride, options.windows});
  PerplexityScores scores;
  scores.notes = std::move(plan.notes);
  for (std::string& note : control_notes(options, contexts_of(model, options), plan.domains)) {
    scores.notes.push_back(std::move(note));
  }
  std::vector<DomainScorer> scorers;
  int64_t total = 0, done = 0;
  for (const DomainWindows& domain : plan.domains) {
    scorers.emplace_back(model, options, domain);
    total += scorers.back().work() * static_cast<int64_t>(domain.windows.size());
  }
  const std::function<void(int64_t)> advance = [&](int64_t work) {
    done += work;
    if (options.progress) options.progress(done, total);
  };
  const size_t batch = static_cast<size_t>(options.batch > 0 ? options.batch : model.device().is_cpu() ? 1 : 8);
  warm_up(model, {documents, std::span(plan.domains.front().windows).first(1), model.device()}, options);
  for (size_t d = 0; d < plan.domains.size(); ++d) {
    const std::span<const Window> windows(plan.domains[d].windows);
    for (size_t i = 0; i < windows.size(); i += batch) {
      scorers[d].score({documents, windows.subspan(i, std::min(batch, windows.size() - i)), model.device()}, advance);
    }
    for (ScoredRow& row : scorers[d].take_rows()) scores.rows.push_back(std::move(row));
  }
  return scores;
}

PerplexityRecord summarise(const PerplexityScores& scores, const std::string& model_name,
                           const PerplexityOptions& options) {
  PerplexityRecord record{model_name, options.decoder_tokens, options.scored_tokens, {}};
  const auto find = [&](const ScoredRow& like, Control control, int64_t context) -> const ScoredRow* {
    for (const ScoredRow& row : scores.rows) {
      if (row.domain == like.domain && row.control == control && row.context_tokens == context) return &row;
    }
    return nullptr;
  };
  for (const ScoredRow& scored : scores.rows) {
    PerplexityRow row{scored.domain, scored.context_tokens, scored.control};
    row.spans = static_cast<int64_t>(scored.nll.size());
    const std::set<int64_t> documents(scored.document.begin(), scored.document.end());
    row.documents = static_cast<int64_t>(documents.size());
    row.perplexity = perplexity(scored.nll);
    row.seconds = scored.seconds;
    row.peak_bytes = scored.peak_bytes;
    if (const ScoredRow* without = find(scored, Control::own, 0); without && without != &scored) {
      const PairedChange change = paired_change(scored.nll, without->nll, scored.document);
      row.change = change.change;
      row.standard_error = change.standard_error;
    }
    const bool own = scored.control == Control::own, window = scored.control == Control::full_window;
    const Control against = own ? Control::other_document : Control::full_window_other;
    if (const ScoredRow* other = own || window ? find(scored, against, scored.context_tokens) : nullptr) {
      const PairedChange change = paired_change(scored.nll, other->nll, scored.document);
      row.reading_gain = -change.change;
      row.reading_gain_error = change.standard_error;
    }
    record.rows.push_back(std::move(row));
  }
  return record;
}

}  // namespace cepe
