#include "eval/statistics.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>
#include <numeric>

#include "base/error.h"

namespace cepe {
namespace {

// The probability of -t < T < t for Student's t distribution: Abramowitz & Stegun 1964, 26.7.3 and 26.7.4, whose sums
// are finite because the degrees of freedom are whole.
double central_probability(double t, int64_t freedom) {
  const double angle = std::atan(t / std::sqrt(static_cast<double>(freedom)));
  const double cosine = std::cos(angle), sine = std::sin(angle);
  const bool odd = freedom % 2 == 1;
  double term = odd ? cosine : 1, sum = 0;
  for (int64_t power = odd ? 1 : 0; power <= freedom - 2; power += 2) {
    sum += term;
    term *= cosine * cosine * static_cast<double>(power + 1) / static_cast<double>(power + 2);
  }
  return odd ? 2 / std::numbers::pi * (angle + sine * sum) : sine * sum;
}

// The variance of the mean of `moves` with one clustering, and its number of clusters.
struct Variance {
  double value;
  int64_t clusters;
};
template <typename Cluster>
Variance clustered_variance(std::span<const double> moves, const std::vector<Cluster>& cluster) {
  std::map<Cluster, double> sums;
  for (size_t i = 0; i < moves.size(); ++i) sums[cluster[i]] += moves[i];
  double squares = 0;
  for (const auto& [id, sum] : sums) squares += sum * sum;
  const auto groups = static_cast<double>(sums.size()), count = static_cast<double>(moves.size());
  return {groups / (groups - 1) * squares / (count * count), static_cast<int64_t>(sums.size())};
}

// A value whose windows move it by moves[i] / N.
Estimate clustered_estimate(double value, std::span<const double> moves, const Clusterings& clusters) {
  require(clusters.size() == 1 || clusters.size() == 2, "clusters: expected one or two clusterings, found {}",
          clusters.size());
  for (const auto& cluster : clusters) {
    require(cluster.size() == moves.size(), "clusters: expected one of each of {} windows, found {}", moves.size(),
            cluster.size());
  }
  Estimate estimate{value, std::nullopt, std::nullopt};
  Variance variance = clustered_variance(moves, clusters[0]);
  if (clusters.size() == 2) {
    const Variance second = clustered_variance(moves, clusters[1]);
    std::vector<std::pair<int64_t, int64_t>> both;
    for (size_t i = 0; i < moves.size(); ++i) both.emplace_back(clusters[0][i], clusters[1][i]);
    const double two_way = variance.value + second.value - clustered_variance(moves, both).value;
    variance = {std::max({variance.value, second.value, two_way}), std::min(variance.clusters, second.clusters)};
  }
  if (variance.clusters < kLeastClusters) return estimate;
  estimate.standard_error = std::sqrt(variance.value);
  estimate.half_width = *estimate.standard_error * student_t_quantile((1 + kIntervalLevel) / 2, variance.clusters - 1);
  return estimate;
}

// perplexity(a) / perplexity(b), and by how much N times each window moves it.
struct Ratio {
  double value;
  std::vector<double> moves;
};
Ratio perplexity_ratio(std::span<const double> a, std::span<const double> b) {
  require(a.size() == b.size(), "paired losses: expected as many on both sides, found {} and {}", a.size(), b.size());
  const double difference = mean(a) - mean(b);
  Ratio ratio{std::exp(difference), {}};
  for (size_t i = 0; i < a.size(); ++i) ratio.moves.push_back(ratio.value * (a[i] - b[i] - difference));
  return ratio;
}

}  // namespace

double mean(std::span<const double> values) {
  require(!values.empty(), "the mean of no values is not defined");
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double perplexity(std::span<const double> nll) { return std::exp(mean(nll)); }

double student_t_quantile(double p, int64_t freedom) {
  require(p > 0 && p < 1 && freedom >= 1,
          "Student's t quantile: expected 0 < p < 1 and 1 degree of freedom or more, "
          "found {} and {}",
          p, freedom);
  if (p < 0.5) return -student_t_quantile(1 - p, freedom);
  double low = 0, high = 1;
  while (central_probability(high, freedom) < 2 * p - 1) high *= 2;
  for (int i = 0; i < 80; ++i) {  // halves the interval to the last bit
    const double middle = (low + high) / 2;
    (central_probability(middle, freedom) < 2 * p - 1 ? low : high) = middle;
  }
  return high;
}

Estimate mean_estimate(std::span<const double> values, const Clusterings& clusters) {
  const double middle = mean(values);
  std::vector<double> moves;
  for (const double value : values) moves.push_back(value - middle);
  return clustered_estimate(middle, moves, clusters);
}

Estimate perplexity_change(std::span<const double> nll, std::span<const double> reference,
                           const Clusterings& clusters) {
  const Ratio ratio = perplexity_ratio(nll, reference);
  return clustered_estimate(std::expm1(mean(nll) - mean(reference)), ratio.moves, clusters);
}

Estimate reading_gain(const GainLosses& losses, const Clusterings& clusters) {
  Estimate gain = perplexity_change(losses.own, losses.control, clusters);
  gain.value = -gain.value;
  return gain;
}

Estimate gain_difference(const GainLosses& ours, const GainLosses& theirs, const Clusterings& clusters) {
  const Ratio our = perplexity_ratio(ours.own, ours.control), their = perplexity_ratio(theirs.own, theirs.control);
  require(our.moves.size() == their.moves.size(),
          "paired gains: expected as many windows on both sides, found {} and {}", our.moves.size(),
          their.moves.size());
  std::vector<double> moves;
  for (size_t i = 0; i < our.moves.size(); ++i) moves.push_back(their.moves[i] - our.moves[i]);
  return clustered_estimate(their.value - our.value, moves, clusters);
}

}  // namespace cepe
