// Pieces of text for masked language modelling (method: "Training", stage 0). No torch here.
#pragma once

#include <vector>

#include "train/samples/sample.h"

namespace cepe {

// What a sample's masks are drawn by.
struct MaskKey {
  uint64_t seed, step, sample;
};

// A piece of text as a sample without context: its labels are the piece's own tokens, of weight 1 at the positions that
// are masked, else 0. Each is masked with probability `share`, at least one is. (The first of the sample's tokens is
// read by nothing: it stands there so that label t is token t of the piece.) Which token stands at masked positions is
// the model's matter. A pure function of the key.
Sample masked_piece(const std::vector<int64_t>& piece, double share, const MaskKey& key);

}  // namespace cepe
