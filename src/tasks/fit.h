// How much of a text fits into a number of tokens.
#pragma once

#include <cstdint>
#include <functional>

namespace cepe {

// A text that grows by units: words, lines, documents.
struct GrowingText {
  int64_t least = 0, most = 0;                   // units, least <= most
  std::function<int64_t(int64_t units)> tokens;  // of the text with so many units; grows with them
};

// The most units, from least to most, whose text has at most `budget` tokens: exact where tokens() grows, and in any
// case the text fits and the text of one unit more does not (or is beyond `most`). -1 where `least` does not fit. Asks
// for tokens() of some five texts, none far longer than the budget, because a text's length is nearly linear.
int64_t most_units_within(int64_t budget, const GrowingText& text);

}  // namespace cepe
