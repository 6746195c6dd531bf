// Which label is ranked first, and how good a list of such choices is.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "eval/statistics.h"

namespace cepe {

// Of each label, what it is ranked by.
struct LabelScores {
  std::vector<double> log_likelihoods;  // log p (nats) of the label's tokens together after the prompt
  std::vector<double> calibration;      // the same without what is asked; empty: not calibrated
  std::vector<size_t> tokens;           // of the label
};

// The first label by each ranking (Yen, Gao, Chen's published evaluation), of equal ones the earlier:
//   likelihood             log p
//   per_token              log p / tokens
//   calibrated             log p - calibration: p / p without what is asked (Holtzman et al. 2021, arXiv 2104.08315,
//                          with an empty domain; Zhao et al. 2021, arXiv 2102.09690, with a content-free text)
//   calibrated_per_token   (log p - calibration) / tokens
// The last two are there where there is a calibration.
std::map<std::string, size_t> rank_labels(const LabelScores& scores);

// A text's right label and the one that was chosen.
struct LabelChoice {
  std::string right, chosen;
  int64_t group = 0;  // F1 is of a group's choices together: those with one seed
};

// The mean over groups, by their choices, of the macro F1: the mean of 2 TP / (2 TP + FP + FN) over the labels that are
// right or chosen somewhere in the group. Its error is by the delta method: a choice of the label c moves the label's
// F1 by (2 TP_i - F1 (right_i + chosen_i)) / (share right + share chosen), over the choices' number.
Estimate macro_f1(std::span<const LabelChoice> choices, const Clusterings& clusters);

}  // namespace cepe
