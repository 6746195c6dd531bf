#include "train/samples/masked_piece.h"

#include "base/random.h"

namespace cepe {

namespace {
constexpr uint64_t kMlmStream = 0x6D6C6D;
}

Sample masked_piece(const std::vector<int64_t>& piece, double share, const MaskKey& key) {
  KeyedRandom random({key.seed, kMlmStream, key.step, key.sample});
  Sample sample;
  sample.tokens = {piece.at(0)};
  sample.tokens.insert(sample.tokens.end(), piece.begin(), piece.end());
  bool any = false;
  for (size_t i = 0; i < piece.size(); ++i) {
    const bool masked = random.uniform() < share;
    sample.weights.push_back(masked ? 1 : 0);
    any = any || masked;
  }
  if (!any) sample.weights[static_cast<size_t>(random.below(static_cast<int64_t>(piece.size())))] = 1;
  return sample;
}

}  // namespace cepe
