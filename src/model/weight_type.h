// A model's matrices in 8 or 4 bits, for writing and evaluation: int8 and int4 for what a step reads, fp8 for
// arithmetic.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/cepe.h"
#include "ops/gemv/quantised_weight.h"

namespace cepe {

// A matrix that can be held in fewer bits, and where it then lies.
struct PackableMatrix {
  at::Tensor* wide;
  std::shared_ptr<const QuantisedWeight>* packed;
  bool kept = false;  // the wide one stays besides
  bool head = false;
};
// int8, int4: every matrix of the decoder's layers (self-attention, feed-forward part, and cross-attention's q and o)
// and the head. The encoder, which a GPU reads no faster so, cross-attention's k and v, which absorbed
// cross-attention reads as matrices, and the embedding stay; tied to the head, it is kept. fp8: the encoder's layers
// and cross-attention's k and v too, which carry most of a long context's arithmetic; of k and v the wide ones are
// kept, for the absorbed form; head, embedding and norms stay. Pointers into the model, whose layers are made; the
// matrices themselves need not be there yet.
std::vector<PackableMatrix> packable_matrices(Cepe& model, WeightType type);

// Those that a file's 4 or 8 bits may be taken over for (OpenOptions::as_file): the same as for int4, and on a CPU,
// whose products of many rows are faster so, the encoder's layers.
std::vector<PackableMatrix> matrices_as_file(Cepe& model, const at::Device& device);

struct QuantisedSizes {
  int64_t matrices = 0;      // quantised, now or before (OpenOptions::as_file)
  int64_t left = 0;          // not of a shape that can be quantised, and left as they were
  int64_t bytes_before = 0;  // of those that were wide before
  int64_t bytes = 0;
};

// Packs those matrices; int4 leaves the head at 8 bits, as files with 4-bit weights do, because its rounding shows in
// every token. A matrix that is packed already stays as it is. The model cannot be trained or saved afterwards.
// WeightType::stored does nothing. Error where fp8 is asked for and the device has no such products or the model is not
// in bfloat16 (ops/gemm/fp8.h).
QuantisedSizes quantise_weights(Cepe& model, WeightType type);

// How many matrices are held in each type but fp8; stored ones do not count.
std::map<WeightType, int64_t> packed_matrices(Cepe& model);

// Bytes of all weights, as they are held.
int64_t weight_bytes(Cepe& model);

// "stored", "int8", "int4" or "fp8"; Error otherwise, which names "auto" too: that is the command's affair.
WeightType weight_type_from_name(const std::string& name, const std::string& option);

}  // namespace cepe
