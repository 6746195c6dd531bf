// What products in fp8 take (fp8.h).
#pragma once

#include <ATen/core/Tensor.h>

namespace cepe {

// Rows in e4m3: row = values * scale. Its greatest magnitude becomes 448; a row of zeros stays one.
struct Fp8Rows {
  at::Tensor values;  // (rows, in) float8_e4m3fn
  at::Tensor scales;  // (rows, 1) float32
};

}  // namespace cepe
