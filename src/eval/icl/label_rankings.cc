#include "eval/icl/label_rankings.h"

#include <algorithm>

#include "base/error.h"

namespace cepe {
namespace {

size_t first_of(const std::vector<double>& values) {
  return static_cast<size_t>(std::max_element(values.begin(), values.end()) - values.begin());
}

std::vector<double> per_token(std::vector<double> values, const std::vector<size_t>& tokens) {
  for (size_t i = 0; i < values.size(); ++i) values[i] /= static_cast<double>(tokens[i]);
  return values;
}

struct Counts {
  double both = 0, either = 0;  // right and chosen; right plus chosen
  double f1() const { return 2 * both / either; }
};

// The macro F1 of some choices, and what each of them moves it by.
void add_group(std::span<const LabelChoice> choices, const std::vector<size_t>& members, std::vector<double>& values) {
  std::map<std::string, Counts> labels;
  for (const size_t i : members) {
    const LabelChoice& choice = choices[i];
    labels[choice.right].either += 1;
    labels[choice.chosen].either += 1;
    if (choice.right == choice.chosen) labels[choice.right].both += 1;
  }
  const auto n = static_cast<double>(members.size()), count = static_cast<double>(labels.size());
  double macro = 0;
  for (const auto& [label, counts] : labels) macro += counts.f1() / count;
  for (const size_t i : members) {
    const LabelChoice& choice = choices[i];
    const Counts &right = labels[choice.right], &chosen = labels[choice.chosen];
    const double hit = choice.right == choice.chosen ? 2 : 0;
    double moved = (hit - right.f1()) / (right.either / n);
    moved -= chosen.f1() / (chosen.either / n);
    values[i] = macro + moved / count;
  }
}

}  // namespace

std::map<std::string, size_t> rank_labels(const LabelScores& scores) {
  const size_t count = scores.log_likelihoods.size();
  require(
      count > 0 && scores.tokens.size() == count && (scores.calibration.empty() || scores.calibration.size() == count),
      "labels are ranked by as many scores as there are labels");
  std::map<std::string, size_t> first;
  first["likelihood"] = first_of(scores.log_likelihoods);
  first["per_token"] = first_of(per_token(scores.log_likelihoods, scores.tokens));
  if (scores.calibration.empty()) return first;
  std::vector<double> calibrated = scores.log_likelihoods;
  for (size_t i = 0; i < count; ++i) calibrated[i] -= scores.calibration[i];
  first["calibrated"] = first_of(calibrated);
  first["calibrated_per_token"] = first_of(per_token(calibrated, scores.tokens));
  return first;
}

Estimate macro_f1(std::span<const LabelChoice> choices, const Clusterings& clusters) {
  std::map<int64_t, std::vector<size_t>> groups;
  for (size_t i = 0; i < choices.size(); ++i) groups[choices[i].group].push_back(i);
  std::vector<double> values(choices.size());
  for (const auto& [group, members] : groups) add_group(choices, members, values);
  return mean_estimate(values, clusters);
}

}  // namespace cepe
