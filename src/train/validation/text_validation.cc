#include "train/validation/text_validation.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

namespace cepe {
namespace {

constexpr uint64_t kMaskSeed = 0x76616C6D61736B;  // of validation's masks, whatever the run's seed

struct TextSums {
  int64_t samples = 0, tokens = 0, right = 0;
  double loss = 0;
  TextRow row(const std::string& domain, bool measured) const {
    const auto n = static_cast<double>(tokens);
    TextRow row{domain, samples, loss / n, std::nullopt};
    if (measured) row.accuracy = static_cast<double>(right) / n;
    return row;
  }
};

}  // namespace

TextValidation::TextValidation(const TrainConfig& config, const Corpus& corpus) : config_(config) {
  HeldOutSpans drawn = draw_held_out_spans(corpus, config.span_tokens(), config.validation_samples);
  domains_ = std::move(drawn.domains);
  for (size_t i = 0; i < drawn.spans.size(); ++i) {
    samples_.push_back(stage_sample(config, drawn.spans[i].tokens.data(), 0, {kMaskSeed, 0, i}));
    domain_.push_back(drawn.spans[i].domain);
  }
}

std::vector<TextRow> TextValidation::run(const at::Device& device,
                                         const std::function<TokenScores(const Batch&)>& score) const {
  const at::NoGradGuard no_grad;
  std::vector<TextSums> sums(domains_.size());
  TextSums all;
  bool measured = false;
  const auto at_once = static_cast<size_t>(config_.micro_batch);
  for (size_t start = 0; start < samples_.size(); start += at_once) {
    std::vector<size_t> indices(std::min(at_once, samples_.size() - start));
    std::iota(indices.begin(), indices.end(), start);
    const Batch batch = lay_out(config_, samples_, indices);
    const TokenScores scores = score(batch.to(device));
    measured = scores.right_N.defined();
    int64_t next = 0;
    for (size_t k = 0; k < indices.size(); ++k) {
      const int64_t count = batch.shapes[k].scored_tokens;
      const double loss = scores.loss_N.narrow(0, next, count).sum().item<double>();
      const int64_t right = measured ? scores.right_N.narrow(0, next, count).sum().item<int64_t>() : 0;
      next += count;
      for (TextSums* s : {&sums[domain_[indices[k]]], &all}) {
        ++s->samples;
        s->tokens += count;
        s->right += right;
        s->loss += loss;
      }
    }
  }
  std::vector<TextRow> rows;
  for (size_t d = 0; d < sums.size(); ++d) rows.push_back(sums[d].row(domains_[d], measured));
  rows.push_back(all.row("all", measured));
  return rows;
}

}  // namespace cepe
