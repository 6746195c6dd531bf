// The word that a person probably meant: for messages about a mistyped command, option or key.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace cepe {

// The candidate with the fewest insertions, deletions, replacements and swaps of neighbours (the optimal string
// alignment distance) from the word. Case, leading dashes, and "_" or "-" do not count; a candidate that begins with
// the word counts as one change. Empty where every candidate is further away than a third of the word's length.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

// "; did you mean X?", or nothing.
std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace cepe
