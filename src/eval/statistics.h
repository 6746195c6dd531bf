// Statistics of paired measurements: two or more readings of the same windows of text.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace cepe {

// The level of all intervals, and the fewest clusters that have one: of fewer, the spread of the clusters says too
// little about the next text.
inline constexpr double kIntervalLevel = 0.95;
inline constexpr int64_t kLeastClusters = 5;

double mean(std::span<const double> values);

// exp of the mean of losses a token (nats).
double perplexity(std::span<const double> nll);

// The value x below which a variable of Student's t distribution lies with probability p. freedom: degrees, 1 or more.
double student_t_quantile(double p, int64_t freedom);

struct Estimate {
  double value = 0;
  std::optional<double> standard_error;  // absent below kLeastClusters clusters
  // value +- half_width is the interval of level kIntervalLevel: the standard error times Student's t quantile with one
  // degree of freedom less than there are clusters. Absent where the standard error is.
  std::optional<double> half_width;
};

// Which windows vary together: the cluster of each window, under one or two clusterings (such as the document that a
// window is in, and the document that its control is from).
using Clusterings = std::vector<std::vector<int64_t>>;

// All vectors hold a loss for each window (nats a token), in the same order.
//
// Standard errors treat clusters as the independent units. A value is a function of mean losses; by the delta method
// window i moves it by u_i / N, where N is the number of windows and the u_i have a mean of zero. With G clusters
//   V = G / (G - 1) * sum over clusters of (sum of u in the cluster)^2 / N^2       (Liang & Zeger 1986)
// is its variance. With two clusterings A and B it is the largest of V(A), V(B) and V(A) + V(B) - V(A and B), where the
// clusters of "A and B" are the windows that share both (Cameron, Gelbach & Miller 2011, "Robust inference with
// multiway clustering"; V(A) and V(B) are added to the choice because the sum can fall below either). Degrees of
// freedom, and the number that kLeastClusters bounds: those of the clustering with fewer clusters.

// The mean of values that are no losses, such as scores.
Estimate mean_estimate(std::span<const double> values, const Clusterings& clusters);

// perplexity(nll) / perplexity(reference) - 1 = exp(mean difference) - 1.
Estimate perplexity_change(std::span<const double> nll, std::span<const double> reference, const Clusterings& clusters);

// How much better the own context is than a control's: 1 - perplexity(own) / perplexity(control).
struct GainLosses {
  std::span<const double> own, control;
};
Estimate reading_gain(const GainLosses& losses, const Clusterings& clusters);
// reading_gain(ours) - reading_gain(theirs), on the same windows.
Estimate gain_difference(const GainLosses& ours, const GainLosses& theirs, const Clusterings& clusters);

}  // namespace cepe
