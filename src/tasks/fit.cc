#include "tasks/fit.h"

#include <algorithm>

#include "base/error.h"

namespace cepe {

int64_t most_units_within(int64_t budget, const GrowingText& text) {
  require(text.least >= 0 && text.least <= text.most, "units of a text: expected 0 <= least <= most, found {} and {}",
          text.least, text.most);
  struct Measured {
    int64_t units, tokens;
  };
  Measured fits{text.least, text.tokens(text.least)};
  if (fits.tokens > budget) return -1;
  // From sixteen units on, at most four times as far at once: no text is far longer than the budget.
  Measured beyond{text.most + 1, -1};  // not measured yet
  int64_t next = fits.units + 16;
  while (beyond.tokens < 0 && beyond.units - fits.units > 1) {
    next = std::clamp(next, fits.units + 1, beyond.units - 1);
    const Measured now{next, text.tokens(next)};
    if (now.tokens > budget) {
      beyond = now;
      break;
    }
    const double rate = static_cast<double>(now.tokens - fits.tokens) / static_cast<double>(now.units - fits.units);
    fits = now;
    const double left = static_cast<double>(budget - now.tokens) / std::max(rate, 0.01);
    next = now.units + static_cast<int64_t>(std::min(left * 1.01 + 1, 3.0 * static_cast<double>(now.units) + 16));
  }
  // Interpolation, aimed a little beyond the side that moved last, so that the other side comes near as well.
  int64_t margin = 1;
  bool moved_fits = true;
  while (beyond.units - fits.units > 1) {
    const double share = static_cast<double>(budget - fits.tokens) / static_cast<double>(beyond.tokens - fits.tokens);
    next = fits.units + static_cast<int64_t>(share * static_cast<double>(beyond.units - fits.units));
    next = std::clamp(next + (moved_fits ? margin : -margin), fits.units + 1, beyond.units - 1);
    const Measured now{next, text.tokens(next)};
    const bool fit = now.tokens <= budget;
    margin = fit == moved_fits ? margin * 4 : 1;
    moved_fits = fit;
    (fit ? fits : beyond) = now;
  }
  return fits.units;
}

}  // namespace cepe
