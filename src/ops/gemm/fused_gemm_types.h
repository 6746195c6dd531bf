// What fused GEMMs take and give (fused_gemm.h).
#pragma once

#include <ATen/core/Tensor.h>

namespace cepe {

// What a layer's attention reads.
struct RotaryGemm {
  at::Tensor q_BTHK, k_BTGK;  // rotated as rotary() does
  at::Tensor v_BTGK;
};
struct RotaryGemmWeights {
  const at::Tensor& q;      // (H*K, D)
  const at::Tensor &k, &v;  // (G*K, D)
};

}  // namespace cepe
