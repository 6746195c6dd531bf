#include "eval/lm/reader.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <random>
#include <set>

#include "base/error.h"
#include "base/report.h"
#include "context/context.h"
#include "context/encode_context.h"
#include "ops/ops.h"

namespace cepe {
namespace {

int64_t states_of_chunk(const CepeConfig& config) {
  return pooled_length(config.decoder.cross, context_chunk_length(config));
}

// Latents of longer and longer contexts, each chunk encoded once: the buffer of the longest context fills from its end.
// No Context: the windows of a batch are encoded and decoded together, and their contexts share nothing but the length
// of their chunks. Joined from pieces they would be copied at every length.
class GrowingContext {
 public:
  GrowingContext(const Cepe& model, const WindowBatch& batch, Control control, int64_t longest)
      : model_(model), batch_(batch), control_(control), longest_(longest) {}

  // The n most recent tokens' latents, a view of the buffer. n may only grow.
  Latents extend(int64_t n) {
    const int64_t B = batch_.size(), L = context_chunk_length(model_.config);
    if (n > tokens_) {
      const Latents piece = encode(model_, {batch_.context(control_, n, tokens_).view({B, (n - tokens_) / L, L}), {}});
      const int64_t S = states(longest_), E = piece.states_BSE.size(2);
      if (!buffer_.defined()) buffer_ = at::empty({B, S, E}, piece.states_BSE.options());
      buffer_.narrow(1, S - states(n), states(n - tokens_)).copy_(piece.states_BSE);
      tokens_ = n;
    }
    if (n == 0) return {};
    return {buffer_.narrow(1, states(longest_ - n), states(n)), {}};
  }

 private:
  int64_t states(int64_t tokens) const {
    return tokens / context_chunk_length(model_.config) * states_of_chunk(model_.config);
  }

  const Cepe& model_;
  const WindowBatch& batch_;
  Control control_;
  int64_t longest_, tokens_ = 0;
  at::Tensor buffer_;  // (B, states(longest), E)
};

// The chunks in another order, the same for every window.
Latents shuffled(const Latents& latents, int64_t chunk_length) {
  std::vector<TokenRange> order;
  for (int64_t first = 0; first < latents.tokens(); first += chunk_length) order.push_back({first, chunk_length});
  std::mt19937_64 random(order.size());
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random() % i]);
  return select_tokens(latents, order);
}

// What began with a's work and went on with b's.
Cost both(const Cost& a, const Cost& b) {
  return {a.seconds + b.seconds, std::max(a.peak_bytes, b.peak_bytes), a.held_bytes};
}

const WantedRow* find_row(std::span<const WantedRow> rows, Control control, int64_t context_tokens) {
  for (const WantedRow& row : rows) {
    if (row.control == control && row.context_tokens == context_tokens) return &row;
  }
  return nullptr;
}

class EncoderReader : public LmReader {
 public:
  EncoderReader(const Cepe& model, bool int8_latents)
      : model_(model), int8_latents_(int8_latents), meter_(model.device()) {}

  std::string why_not(int64_t context_tokens) const override {
    return context_tokens == 0 || model_.encoder ? "" : "the model has no encoder";
  }

  void score(const WindowBatch& batch, std::span<const WantedRow> rows, const OnRowScores& scored) const override {
    Work work{batch, rows, scored, batch.text(), batch.labels(), {}, {}};
    meter_.start();
    work.below = decode_below(model_, work.ids);
    work.below_cost = meter_.stop();
    for (const Control control : {Control::own, Control::other_document, Control::same_source}) {
      score_control(work, control);
    }
  }

 private:
  struct Work {
    const WindowBatch& batch;
    std::span<const WantedRow> rows;
    const OnRowScores& scored;
    at::Tensor ids, labels;
    at::Tensor below;  // decode_below() of ids: the same for every context
    Cost below_cost;
  };

  void score_control(const Work& work, Control control) const {
    std::set<int64_t> contexts;
    for (const WantedRow& row : work.rows) {
      const Control text = row.control == Control::shuffled ? Control::own : row.control;
      if (text == control) contexts.insert(row.context_tokens);
    }
    if (contexts.empty()) return;
    GrowingContext growing(model_, work.batch, control, *contexts.rbegin());
    Cost before = work.below_cost;  // with all the chunks so far: what a run with this context alone would spend
    for (const int64_t n : contexts) {
      meter_.start();
      const Latents latents = growing.extend(n), kept = as_kept(latents);
      before = both(before, meter_.stop());
      if (const WantedRow* row = find_row(work.rows, control, n)) score_row(work, *row, kept, before);
      const WantedRow* mixed = control == Control::own ? find_row(work.rows, Control::shuffled, n) : nullptr;
      if (mixed) score_row(work, *mixed, as_kept(shuffled(latents, states_of_chunk(model_.config))), before);
    }
  }

  void score_row(const Work& work, const WantedRow& row, const Latents& context, const Cost& before) const {
    meter_.start();
    const at::Tensor hidden = decode(
        model_, {.ids_BT = work.ids, .context = &context, .last = work.batch.scored_tokens, .below_BTD = work.below});
    RowScores scores{mean_losses(model_, hidden, work.labels), {}};
    scores.cost = both(before, meter_.stop());
    work.scored(row.row, scores);
  }

  Latents as_kept(const Latents& latents) const { return int8_latents_ ? quantize(latents) : latents; }

  const Cepe& model_;
  bool int8_latents_;
  mutable Meter meter_;
};

class WindowReader : public LmReader {
 public:
  WindowReader(const Cepe& model, const WindowReaderOptions& options) : model_(model), options_(options) {}

  std::string why_not(int64_t context_tokens) const override {
    if (context_tokens == 0 && !options_.alone) return "that is the decoder alone";
    const int64_t tokens = context_tokens + options_.decoder_tokens;
    if (tokens > options_.window) {
      return fmt::format("beside the decoder's {} they do not fit its window of {}",
                         format_count(static_cast<uint64_t>(options_.decoder_tokens)),
                         format_count(static_cast<uint64_t>(options_.window)));
    }
    const bool costly = options_.attention_tokens > 0 && tokens > options_.attention_tokens;
    return costly ? beyond_attention(options_.attention_tokens) : "";
  }

  void prepare(int64_t context_tokens) const override {
    const at::Tensor few = at::zeros({1, std::min<int64_t>(16, options_.decoder_tokens)}, at::kLong);
    decode(model_, {.ids_BT = few.to(model_.device())});
    make_rotary_table(model_, context_tokens + options_.decoder_tokens);
  }

  void score(const WindowBatch& batch, std::span<const WantedRow> rows, const OnRowScores& scored) const override {
    Meter meter(model_.device());
    for (const WantedRow& row : rows) {
      meter.start();
      const int64_t most =
          std::max<int64_t>(1, options_.tokens_at_once / (row.context_tokens + options_.decoder_tokens));
      RowScores scores;
      for (int64_t first = 0; first < batch.size(); first += most) {
        const std::vector<double> nll = losses(batch.part(first, std::min(most, batch.size() - first)), row);
        scores.nll.insert(scores.nll.end(), nll.begin(), nll.end());
      }
      scores.cost = meter.stop();
      scored(row.row, scores);
    }
  }

 private:
  std::vector<double> losses(const WindowBatch& batch, const WantedRow& row) const {
    const at::Tensor ids = batch.whole(row.control, row.context_tokens);
    const at::Tensor hidden = decode(model_, {.ids_BT = ids, .last = batch.scored_tokens});
    return mean_losses(model_, hidden, batch.labels());
  }

  const Cepe& model_;
  WindowReaderOptions options_;
};

}  // namespace

void make_rotary_table(const Cepe& model, int64_t tokens) {
  const Stack& stack = model.decoder.stack;
  stack.rotary.table(stack.config, tokens, stack.norm);
}

std::vector<double> row_means(const at::Tensor& losses_BT) {
  const at::Tensor means = losses_BT.to(at::kDouble).mean(1).cpu();
  const double* first = means.const_data_ptr<double>();
  return {first, first + means.numel()};
}

std::vector<double> mean_losses(const Cepe& model, const at::Tensor& hidden_BTD, const at::Tensor& labels_BT) {
  const at::Tensor nll =
      linear_cross_entropy(hidden_BTD.flatten(0, 1), head_weight(model), labels_BT.reshape({labels_BT.numel()}));
  return row_means(nll.view_as(labels_BT));
}

std::unique_ptr<LmReader> encoder_reader(const Cepe& model, bool int8_latents) {
  return std::make_unique<EncoderReader>(model, int8_latents);
}

std::unique_ptr<LmReader> window_reader(const Cepe& model, const WindowReaderOptions& options) {
  return std::make_unique<WindowReader>(model, options);
}

std::string beyond_attention(int64_t attention_tokens) {
  return fmt::format("with the decoder's they are more than the {} that full attention is to read",
                     format_count(static_cast<uint64_t>(attention_tokens)));
}

}  // namespace cepe
