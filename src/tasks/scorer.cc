#include "tasks/scorer.h"

#include <algorithm>

#include "base/error.h"
#include "text/utf8.h"

namespace cepe {
namespace {

// How many of the references the prediction contains.
int64_t contained(std::string_view prediction, const std::vector<std::string>& references) {
  require(!references.empty(), "a score needs a reference, found none");
  const std::string text = lower_case(prediction);
  return std::count_if(references.begin(), references.end(), [&](const std::string& reference) {
    return text.find(lower_case(reference)) != std::string::npos;
  });
}

}  // namespace

Scores match_all(std::string_view prediction, const std::vector<std::string>& references) {
  const int64_t found = contained(prediction, references);
  return {{"match", static_cast<double>(found) / static_cast<double>(references.size())}};
}

Scores match_any(std::string_view prediction, const std::vector<std::string>& references) {
  return {{"match", contained(prediction, references) > 0 ? 1.0 : 0.0}};
}

}  // namespace cepe
