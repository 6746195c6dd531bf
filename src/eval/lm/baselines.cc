#include "eval/lm/baselines.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "base/error.h"
#include "base/report.h"
#include "eval/windows.h"
#include "model/layer/streaming_layers.h"
#include "model/replug.h"
#include "text/bm25.h"

namespace cepe {
namespace {

bool stretches(const std::string& name) { return name == "pi" || name == "ntk" || name == "dynamic" || name == "yarn"; }

// What all baselines say of a context of no tokens.
constexpr const char* kAlone = "that is the decoder alone";

class StretchedReader : public LmReader {
 public:
  StretchedReader(const Cepe& model, std::string name, const BaselineOptions& options)
      : model_(model), name_(std::move(name)), options_(options) {}

  std::string why_not(int64_t context_tokens) const override {
    const int64_t tokens = context_tokens + options_.decoder_tokens;
    if (context_tokens == 0) return kAlone;
    if (tokens <= decoder_window(model_.config.decoder)) {
      return fmt::format("beside the decoder's {} they fit its window, where it is full attention",
                         tokens_text(options_.decoder_tokens));
    }
    return tokens <= options_.attention_tokens ? "" : beyond_attention(options_.attention_tokens);
  }

  void prepare(int64_t context_tokens) const override {
    make_rotary_table(of_length(context_tokens + options_.decoder_tokens), context_tokens + options_.decoder_tokens);
  }

  void score(const WindowBatch& batch, std::span<const WantedRow> rows, const OnRowScores& scored) const override {
    for (const WantedRow& row : rows) {
      const int64_t tokens = row.context_tokens + options_.decoder_tokens;
      window_reader(of_length(tokens), {.decoder_tokens = options_.decoder_tokens, .window = tokens})
          ->score(batch, std::span(&row, 1), scored);
    }
  }

 private:
  const Cepe& of_length(int64_t tokens) const {
    std::unique_ptr<Cepe>& stretched = stretched_[tokens];
    if (!stretched) stretched = std::make_unique<Cepe>(stretched_decoder(model_, name_, tokens));
    return *stretched;
  }

  mutable std::map<int64_t, std::unique_ptr<Cepe>> stretched_;  // each keeps its table of rotary positions
  const Cepe& model_;
  std::string name_;
  BaselineOptions options_;
};

class StreamingReader : public LmReader {
 public:
  StreamingReader(const Cepe& model, const BaselineOptions& options)
      : model_(model), decoder_tokens_(options.decoder_tokens), sinks_(options.sinks), recent_(options.recent) {
    require(sinks_ >= 0, "streaming: expected 0 or more sinks, found {}", sinks_);
    if (recent_ == 0) recent_ = std::max<int64_t>(1, options.decoder_tokens - sinks_ - 1);
    require(recent_ >= 1, "streaming: expected 1 or more recent tokens, found {}", recent_);
    const int64_t window = decoder_window(model.config.decoder);
    require(sinks_ + recent_ < window,
            "streaming: {} sinks, {} recent tokens and the token itself exceed the decoder's window of {}", sinks_,
            recent_, window);
    require(model.config.decoder.rope.kind != RopeKind::dynamic,
            "streaming: the frequencies of the decoder's rotary positions change with the length (dynamic), which "
            "StreamingLLM does not define");
  }

  std::string why_not(int64_t context_tokens) const override { return context_tokens == 0 ? kAlone : ""; }
  void prepare(int64_t context_tokens) const override { make_rotary_table(model_, context_tokens + decoder_tokens_); }

  void score(const WindowBatch& batch, std::span<const WantedRow> rows, const OnRowScores& scored) const override {
    Meter meter(model_.device());
    for (const WantedRow& row : rows) {
      meter.start();
      const at::Tensor hidden = decode_streaming(model_, {.ids_BT = batch.whole(row.control, row.context_tokens),
                                                          .sinks = sinks_,
                                                          .recent = recent_,
                                                          .last = batch.scored_tokens});
      RowScores scores{mean_losses(model_, hidden, batch.labels()), {}};
      scores.cost = meter.stop();
      scored(row.row, scores);
    }
  }

 private:
  const Cepe& model_;
  int64_t decoder_tokens_, sinks_, recent_;
};

class ReplugReader : public LmReader {
 public:
  ReplugReader(const Cepe& model, const Tokenizer& tokenizer, const BaselineOptions& options)
      : model_(model), tokenizer_(tokenizer), options_(options) {
    const int64_t window = decoder_window(model.config.decoder);
    require(options.replug_chunk >= 1 && options.replug_chunk + options.decoder_tokens <= window,
            "replug: a chunk of {} tokens and the decoder's {} exceed the decoder's window of {}", options.replug_chunk,
            options.decoder_tokens, window);
    require(options.replug_passages >= 0, "replug: expected 1 or more passages, or 0 for all, found {}",
            options.replug_passages);
    require(options.replug_temperature > 0, "replug: the temperature should be positive, found {}",
            options.replug_temperature);
  }

  std::string why_not(int64_t context_tokens) const override {
    if (context_tokens == 0) return kAlone;
    if (context_tokens % options_.replug_chunk == 0) return "";
    return fmt::format("they are no whole number of chunks of {}", tokens_text(options_.replug_chunk));
  }

  void score(const WindowBatch& batch, std::span<const WantedRow> rows, const OnRowScores& scored) const override {
    Meter meter(model_.device());
    for (const WantedRow& row : rows) {
      meter.start();
      const at::Tensor losses = replug_losses(model_, input_of(batch, row), batch.labels());
      RowScores scores{row_means(losses), {}};
      scores.cost = meter.stop();
      scored(row.row, scores);
    }
  }

 private:
  std::string text_of(const at::Tensor& ids) const {
    const at::Tensor on_host = ids.cpu().contiguous();
    const int64_t* first = on_host.const_data_ptr<int64_t>();
    const std::vector<TokenId> tokens(first, first + on_host.numel());
    return tokenizer_.decode(tokens, /*skip_special=*/false);
  }

  // Each window's best chunks, by BM25 against what of its text comes before the scored tokens.
  ReplugInput input_of(const WindowBatch& batch, const WantedRow& row) const {
    const int64_t B = batch.size(), N = row.context_tokens / options_.replug_chunk;
    const int64_t most = options_.replug_passages > 0 ? std::min(options_.replug_passages, N) : N;
    const at::Tensor chunks_BNC = batch.context(row.control, row.context_tokens, 0).view({B, N, options_.replug_chunk});
    const at::Tensor text_BT = batch.text();
    std::vector<at::Tensor> chosen, scores;
    for (int64_t b = 0; b < B; ++b) {
      Bm25Index index;
      for (int64_t n = 0; n < N; ++n) index.add(text_of(chunks_BNC[b][n]));
      const std::vector<double> found =
          index.scores(text_of(text_BT[b].narrow(0, 0, batch.decoder_tokens - batch.scored_tokens + 1)));
      std::vector<int64_t> order(found.size());
      std::iota(order.rbegin(), order.rend(), int64_t{0});  // the nearest first: of equal scores it is taken
      std::stable_sort(order.begin(), order.end(), [&](int64_t x, int64_t y) { return found[x] > found[y]; });
      order.resize(static_cast<size_t>(most));
      const at::Tensor best = at::tensor(order, at::kLong);
      chosen.push_back(chunks_BNC[b].index_select(0, best.to(chunks_BNC.device())));
      scores.push_back(at::tensor(found, at::kDouble).index_select(0, best));
    }
    at::Tensor scores_BN = at::stack(scores);
    if (options_.replug_uniform) scores_BN = at::zeros_like(scores_BN);
    const at::ScalarType type = model_.dtype() == at::kDouble ? at::kDouble : at::kFloat;
    return {at::stack(chosen), scores_BN.to(batch.device, type), text_BT, options_.replug_temperature};
  }

  const Cepe& model_;
  const Tokenizer& tokenizer_;
  BaselineOptions options_;
};

}  // namespace

const std::vector<std::string>& baseline_names() {
  static const std::vector<std::string> names{"full", "pi", "ntk", "dynamic", "yarn", "streaming", "replug"};
  return names;
}

Cepe stretched_decoder(const Cepe& model, const std::string& name, int64_t tokens) {
  const StackConfig& own = model.config.decoder;
  const int64_t window = decoder_window(own);
  const double factor = static_cast<double>(tokens) / static_cast<double>(window);
  StackConfig config = own;
  config.max_positions = window;  // as though trained on what the decoder's window is
  config.chosen_window = tokens;
  RopeConfig& rope = config.rope;
  if (name == "ntk") {
    const auto d = static_cast<double>(own.head_dim);
    rope.theta *= std::pow(factor, d / (d - 2));
  } else {
    rope.kind = name == "pi" ? RopeKind::linear : name == "dynamic" ? RopeKind::dynamic : RopeKind::yarn;
    rope.factor = factor;
  }
  Cepe view{model.config, model.decoder, std::nullopt};
  view.config.decoder = view.decoder.stack.config = config;
  view.decoder.stack.rotary = RotaryCache();  // it holds cosines of the old frequencies
  return view;
}

std::unique_ptr<LmReader> baseline_reader(const std::string& name, const Cepe& model, const Tokenizer& tokenizer,
                                          const BaselineOptions& options) {
  const StackConfig& decoder = model.config.decoder;
  if (stretches(name)) {
    require(decoder.rope.kind == RopeKind::none && decoder.rope.frequency_divisors.empty(),
            "{}: the decoder's rotary positions are scaled already; the baseline is defined for a decoder without "
            "scaling",
            name);
    require(decoder.sliding_window == 0, "{}: the decoder's attention slides over {} tokens, so no window is stretched",
            name, decoder.sliding_window);
    return std::make_unique<StretchedReader>(model, name, options);
  }
  if (name == "streaming") return std::make_unique<StreamingReader>(model, options);
  if (name == "replug") return std::make_unique<ReplugReader>(model, tokenizer, options);
  require(name == "full", "there is no baseline \"{}\"", name);
  return window_reader(model, {.decoder_tokens = options.decoder_tokens, .window = decoder_window(decoder)});
}

}  // namespace cepe
