// Matrices that read the same input as one: queries, keys and values, and the feed-forward part's gate and up. Writing
// one token after another then starts one product where it started three or two.
#pragma once

#include "model/cepe.h"

namespace cepe {

// Merges the decoder's layers. Their own matrices become views of the merged ones, so that memory stays what it was and
// everything that reads them goes on. So do quantised weights (weight_type.h); in LibTorch's own layout of int4 (a CPU
// without our kernels), and with biases on some of q, k and v alone, they stay as they are. For inference: pack, cast
// or train before. Returns the layers in which something was merged.
int64_t merge_projections(Cepe& model);

// Whether few rows are then read faster: where kernels of src/ops read the matrices (gemv.h), and where they are
// quantised.
bool merging_pays(const Cepe& model);

}  // namespace cepe
