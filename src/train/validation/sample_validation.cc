#include "train/validation/sample_validation.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "train/objective.h"

namespace cepe {
namespace {

constexpr int64_t kRowsAtOnce = 512;  // rows of logits held at once

// Of each scored token of a batch, on the CPU: its loss, and whether it is the most likely one.
struct Scores {
  at::Tensor loss_N, right_N;  // float64, bool
};

Scores score(const Cepe& model, const Batch& batch) {
  const ScoredStates scored = scored_states(decode_batch(model, batch), batch);
  std::vector<at::Tensor> losses, right;
  for (int64_t start = 0; start < scored.labels_N.size(0); start += kRowsAtOnce) {
    const int64_t n = std::min(kRowsAtOnce, scored.labels_N.size(0) - start);
    const at::Tensor labels = scored.labels_N.narrow(0, start, n);
    const at::Tensor rows = logits(model, scored.hidden_ND.narrow(0, start, n)).to(at::kFloat);
    losses.push_back(rows.log_softmax(-1).gather(1, labels.unsqueeze(1)).squeeze(1).neg().to(at::kDouble));
    right.push_back(rows.argmax(-1).eq(labels));
  }
  return {at::cat(losses).cpu(), at::cat(right).cpu()};
}

struct SampleSums {
  int64_t samples = 0, exact = 0, tokens = 0;
  double loss = 0;
  SampleRow row(const std::string& domain, std::optional<int64_t> chunks = {}) const {
    return {domain, samples, loss / static_cast<double>(tokens),
            static_cast<double>(exact) / static_cast<double>(samples), chunks};
  }
};

// The least of 1, 4, 16, ... that is no less than a sample's number of chunks.
int64_t size_class(const Sample& sample) {
  int64_t size = 1;
  while (size < static_cast<int64_t>(sample.chunks.size())) size *= 4;
  return size;
}

}  // namespace

SampleValidation::SampleValidation(const TrainConfig& config, const Corpus& corpus) : config_(config), corpus_(corpus) {
  std::vector<int64_t> wanted(corpus.domains.size(), 0);
  std::set<int32_t> domains;  // that have samples
  for (const Corpus::Document& document : corpus.documents) domains.insert(document.domain);
  const auto count = static_cast<int64_t>(domains.size());
  int64_t left = config.validation_samples % count;
  for (int32_t d : domains) wanted[static_cast<size_t>(d)] = config.validation_samples / count + (left-- > 0 ? 1 : 0);
  for (size_t i = 0; i < corpus.documents.size(); ++i) {
    if (wanted[static_cast<size_t>(corpus.documents[i].domain)]-- <= 0) continue;
    documents_.push_back(static_cast<int64_t>(i));
    samples_.push_back(read_sample(corpus, documents_.back(), 1));
  }
}

std::vector<SampleRow> SampleValidation::run(const Cepe& model) const {
  const at::NoGradGuard no_grad;
  std::vector<SampleSums> sums(corpus_.domains.size());
  std::vector<std::map<int64_t, SampleSums>> sizes(corpus_.domains.size() + 1);  // the last: of all domains
  SampleSums all;
  std::vector<size_t> order(samples_.size());
  std::iota(order.begin(), order.end(), 0);
  for (const std::vector<size_t>& indices : cut_into_batches(config_, samples_, order, kGpuBatchTokens)) {
    const Batch batch = lay_out(config_, samples_, indices);
    const Scores scores = score(model, batch.to(model.device()));
    int64_t next = 0;  // scored tokens stand sample after sample
    for (size_t k = 0; k < indices.size(); ++k) {
      const int64_t count = batch.shapes[k].scored_tokens;
      const double loss = scores.loss_N.narrow(0, next, count).sum().item<double>();
      const bool exact = scores.right_N.narrow(0, next, count).all().item<bool>();
      next += count;
      const Corpus::Document& document = corpus_.documents[static_cast<size_t>(documents_[indices[k]])];
      const auto domain = static_cast<size_t>(document.domain);
      const int64_t size = size_class(samples_[indices[k]]);
      for (SampleSums* s : {&sums[domain], &sizes[domain][size], &sizes.back()[size], &all}) {
        ++s->samples;
        s->tokens += count;
        s->loss += loss;
        s->exact += exact;
      }
    }
  }
  std::vector<SampleRow> rows;
  for (size_t d = 0; d < sums.size(); ++d) {
    if (sums[d].samples > 0) rows.push_back(sums[d].row(corpus_.domains[d]));
  }
  for (size_t d = 0; d < sizes.size(); ++d) {
    if (sizes[d].size() < 2) continue;
    const std::string name = d < corpus_.domains.size() ? corpus_.domains[d] : "all";
    for (const auto& [chunks, of_size] : sizes[d]) rows.push_back(of_size.row(name, chunks));
  }
  rows.push_back(all.row("all"));
  return rows;
}

}  // namespace cepe
