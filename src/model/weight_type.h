// A model's matrices in 8 or 4 bits, for writing and evaluation: int8 and int4 for what a step reads, fp8 for
// arithmetic.
#pragma once

#include <string>

#include "model/cepe.h"
#include "ops/gemv/quantised_weight.h"

namespace cepe {

struct QuantisedSizes {
  int64_t matrices = 0;      // quantised
  int64_t left = 0;          // not of a shape that can be quantised, and left as they were
  int64_t bytes_before = 0;  // of the quantised ones
  int64_t bytes = 0;
};

// Packs every matrix of the decoder's layers (self-attention, feed-forward part, and cross-attention's q and o) and the
// head; int4 leaves the head at 8 bits, as files with 4-bit weights do, because its rounding shows in every token. The
// encoder, which always reads many tokens at once, cross-attention's k and v, which absorbed cross-attention reads as
// matrices, and the embedding stay. The model cannot be trained or saved afterwards. WeightType::stored does nothing.
// fp8 packs the encoder's layers and cross-attention's k and v too, which carry most of a long context's arithmetic; of
// k and v the matrices are kept besides, for the absorbed form; head, embedding and norms stay as they are. Error where
// the device has no such products or the model is not in bfloat16 (ops/gemm/fp8.h).
QuantisedSizes quantise_weights(Cepe& model, WeightType type);

// Bytes of all weights, as they are held.
int64_t weight_bytes(Cepe& model);

// "stored", "int8", "int4" or "fp8"; Error otherwise.
WeightType weight_type_from_name(const std::string& name, const std::string& option);

}  // namespace cepe
