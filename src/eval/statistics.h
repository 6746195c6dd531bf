// Statistics of paired measurements: two readings of the same spans of text.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace cepe {

double mean(std::span<const double> values);

// exp of the mean of losses a token (nats).
double perplexity(std::span<const double> nll);

struct PairedChange {
  double change = 0;                     // perplexity(nll) / perplexity(reference) - 1 = exp(mean difference) - 1
  std::optional<double> standard_error;  // of `change`; absent for a single span
};

// Both vectors hold a loss for each span (nats a token), in the same order; `document` says which document a span
// is from. The standard error treats documents as the independent units (Liang & Zeger 1986): with r the
// differences less their mean, N spans and G documents,
//   se(mean)^2 = G / (G - 1) * sum over documents of (sum of its r)^2 / N^2,
// and by the delta method se(change) = exp(mean) * se(mean). With one document its spans are the units.
PairedChange paired_change(std::span<const double> nll, std::span<const double> reference,
                           std::span<const int64_t> document);

}  // namespace cepe
