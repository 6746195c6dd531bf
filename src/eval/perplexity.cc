#include "eval/perplexity.h"

#include <algorithm>

#include "base/error.h"
#include "context/encode_context.h"
#include "eval/lm/scoring.h"

namespace cepe {
namespace {

// The readers of `cepe perplexity`: the encoder, and full attention where it is asked for, which always reads the other
// document too.
std::vector<NamedReader> readers_of(const Cepe& model, const PerplexityOptions& options) {
  std::vector<NamedReader> readers;
  readers.push_back({kCepeReader, encoder_reader(model, options.int8_latents), options.other_document,
                     options.same_source, options.shuffled});
  if (options.full_window) {
    readers.push_back({kFullReader,
                       window_reader(model, {.decoder_tokens = options.decoder_tokens,
                                             .window = decoder_window(model.config.decoder)}),
                       true, options.same_source, false});
  }
  return readers;
}

}  // namespace

void check_window_options(const Cepe& model, const PerplexityOptions& options) {
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
  if (!model.encoder) return;
  for (int64_t n : contexts) {
    require(n % context_chunk_length(model.config) == 0,
            "a context of {} tokens is not a whole number of chunks of {} tokens", n,
            context_chunk_length(model.config));
  }
}

void check_perplexity_options(const Cepe& model, const PerplexityOptions& options) {
  check_window_options(model, options);
  if (options.context_tokens.back() == 0) {
    const char* what = options.other_document ? "other-document"
                       : options.same_source  ? "same-source"
                       : options.shuffled     ? "shuffled"
                                              : "full-window";
    require(!options.other_document && !options.same_source && !options.shuffled && !options.full_window,
            "{} needs a context, and the list of context lengths has only 0", what);
    return;
  }
  require(model.encoder || (options.full_window && !options.other_document && !options.shuffled),
          "this model has no encoder and cannot read a context: only a context length of 0 can be measured, or full "
          "attention, which reads another document too; beside it only the control same-source");
}

PerplexityScores score_windows(const Cepe& model, const std::vector<TokenDocument>& documents,
                               const PerplexityOptions& options) {
  check_perplexity_options(model, options);
  const std::vector<NamedReader> readers = readers_of(model, options);
  const WindowScoring scoring(model, documents, options, readers);
  PerplexityScores scores = scoring.empty_scores();
  const auto fits = [&](int64_t n) { return readers.back().reader->reads(n); };
  if (options.full_window && std::none_of(options.context_tokens.begin(), options.context_tokens.end(), fits)) {
    scores.notes.emplace_back(
        "No context of the list fits into the decoder's own window beside its tokens: full-window is left out.");
  }
  int64_t total = 0, done = 0;
  for (const WindowGroup& group : scoring.groups()) total += scoring.work(group);
  scoring.warm_up();
  for (const WindowGroup& group : scoring.groups()) {
    scoring.score(group, [&](size_t row, const RowScores& found) {
      add_scores(scores.rows[row], group, found);
      done += static_cast<int64_t>(group.size) * scoring.row_tokens(row);
      if (options.progress) options.progress(done, total);
    });
  }
  return scores;
}

}  // namespace cepe
