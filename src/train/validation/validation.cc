#include "train/validation/validation.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace cepe {
namespace {

// Mean loss of each sample's T labels, (B) in float64 on the CPU.
at::Tensor sample_losses(const Cepe& model, const at::Tensor& decoder_BT1, const Latents* context) {
  const int64_t B = decoder_BT1.size(0), T = decoder_BT1.size(1) - 1;
  DecodeInput input;
  input.ids_BT = decoder_BT1.narrow(1, 0, T);
  input.context = context;
  const at::Tensor hidden = decode(model, input);
  const at::Tensor labels = decoder_BT1.narrow(1, 1, T).reshape(-1);
  return linear_cross_entropy(hidden.reshape({B * T, -1}), model.decoder.lm_head, labels)
      .view({B, T})
      .to(at::kDouble)
      .mean(1)
      .cpu();
}

struct Sums {
  int64_t samples = 0, paired = 0;
  double own = 0, none = 0, other = 0;
};

ValidationRow row_of(const std::string& domain, const Sums& sums) {
  const double n = static_cast<double>(sums.samples);
  ValidationRow row{domain, sums.samples, sums.own / n, sums.none / n, std::nullopt};
  if (sums.paired == sums.samples) row.other = sums.other / n;
  return row;
}

}  // namespace

std::optional<double> ValidationRow::reading_gain() const {
  return other ? std::optional(1 - std::exp(own - *other)) : std::nullopt;
}

Validation::Validation(const TrainConfig& config, const Corpus& corpus) : config_(config) {
  HeldOutSpans drawn = draw_held_out_spans(corpus, config.span_tokens(), config.validation_samples);
  domains_ = std::move(drawn.domains);
  for (HeldOutSpan& span : drawn.spans) spans_.push_back({std::move(span)});
  pair_with_other_documents();
}

void Validation::pair_with_other_documents() {
  const size_t count = spans_.size();
  for (size_t i = 0; i < count; ++i) {
    for (size_t k = 1; k < count && spans_[i].other < 0; ++k) {
      const size_t j = (i + k) % count;
      if (spans_[j].domain == spans_[i].domain && spans_[j].document != spans_[i].document)
        spans_[i].other = static_cast<int64_t>(j);
    }
  }
}

std::vector<ValidationRow> Validation::run(const Cepe& model) const {
  const at::NoGradGuard no_grad;
  const int64_t chunks = config_.max_context_tokens() / config_.chunk_length;
  const at::Device device = model.device();
  std::vector<Sums> sums(domains_.size());
  Sums all;
  for (size_t start = 0; start < spans_.size(); start += static_cast<size_t>(config_.micro_batch)) {
    const size_t end = std::min(spans_.size(), start + static_cast<size_t>(config_.micro_batch));
    std::vector<Sample> own, other;
    for (size_t i = start; i < end; ++i) {
      const Span& partner = spans_[i].other < 0 ? spans_[i] : spans_[static_cast<size_t>(spans_[i].other)];
      own.push_back(plain_sample(config_, spans_[i].tokens.data(), chunks));
      other.push_back(plain_sample(config_, partner.tokens.data(), chunks));
    }
    const Batch batch = lay_out(config_, own).to(device), foreign = lay_out(config_, other).to(device);
    const Latents own_latents = encode(model, {batch.ids_BML, {}}),
                  other_latents = encode(model, {foreign.ids_BML, {}});
    const at::Tensor with_own = sample_losses(model, batch.decoder_BT1, &own_latents);
    const at::Tensor with_other = sample_losses(model, batch.decoder_BT1, &other_latents);
    const at::Tensor without = sample_losses(model, batch.decoder_BT1, nullptr);
    for (size_t i = start; i < end; ++i) {
      const size_t at = i - start;
      for (Sums* s : {&sums[spans_[i].domain], &all}) {
        ++s->samples;
        s->paired += spans_[i].other >= 0;
        s->own += with_own.data_ptr<double>()[at];
        s->other += with_other.data_ptr<double>()[at];
        s->none += without.data_ptr<double>()[at];
      }
    }
  }
  std::vector<ValidationRow> rows;
  for (size_t d = 0; d < domains_.size(); ++d) rows.push_back(row_of(domains_[d], sums[d]));
  rows.push_back(row_of("all", all));
  return rows;
}

}  // namespace cepe
