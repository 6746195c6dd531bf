#include "eval/statistics.h"

#include <cmath>
#include <map>
#include <numeric>

#include "base/error.h"

namespace cepe {

double mean(std::span<const double> values) {
  require(!values.empty(), "the mean of no values is not defined");
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double perplexity(std::span<const double> nll) { return std::exp(mean(nll)); }

PairedChange paired_change(std::span<const double> nll, std::span<const double> reference,
                           std::span<const int64_t> document) {
  require(nll.size() == reference.size() && nll.size() == document.size(),
          "a paired change of {} losses, {} reference losses and {} documents is not defined", nll.size(),
          reference.size(), document.size());
  const double difference = mean(nll) - mean(reference);
  PairedChange result{std::expm1(difference), std::nullopt};
  std::map<int64_t, double> by_document;
  double by_span = 0;
  for (size_t i = 0; i < nll.size(); ++i) {
    const double residual = nll[i] - reference[i] - difference;
    by_document[document[i]] += residual;
    by_span += residual * residual;
  }
  double sum = by_span, units = static_cast<double>(nll.size());
  if (by_document.size() > 1) {
    sum = 0;
    units = static_cast<double>(by_document.size());
    for (const auto& [id, residual] : by_document) sum += residual * residual;
  }
  if (units < 2) return result;
  result.standard_error = std::exp(difference) * std::sqrt(sum * units / (units - 1)) / static_cast<double>(nll.size());
  return result;
}

}  // namespace cepe
