// Scores of an answer against right ones: each from 0 to 1, by name.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace cepe {

using Scores = std::map<std::string, double>;
// Thread-safe. The references are empty only for questions without an answer (question_scores.h).
using Scorer = std::function<Scores(std::string_view prediction, const std::vector<std::string>& references)>;

// {"match"}: the share of the references that the prediction contains. RULER's string_match_all (Hsieh et al. 2024,
// arXiv 2404.06654): upper and lower case are the same.
Scores match_all(std::string_view prediction, const std::vector<std::string>& references);

// {"match"}: 1 where the prediction contains any of the references, else 0. RULER's string_match_part.
Scores match_any(std::string_view prediction, const std::vector<std::string>& references);

}  // namespace cepe
