// Which implementation is chosen, at the sizes of known models.
#include "ops/dispatch.h"

#include <gtest/gtest.h>

#include "ops/cuda/device.h"

namespace cepe::dispatch {
namespace {

constexpr LayerShape kLlama2 = {4096, 32, 32, 128, 11008}, kLlama3 = {4096, 32, 8, 128, 14336},
                     kQwen7B = {3584, 28, 4, 128, 18944}, kSmolLM2 = {576, 9, 3, 64, 1536};

TEST(Dispatch, ChainsWantADeviceForThemselves) {
  const auto pay = [](ChainQuestion question) { return chains_pay(question); };
  for (const LayerShape& layer : {kLlama2, kLlama3, kQwen7B, kSmolLM2}) {
    for (const bool reads : {true, false}) EXPECT_FALSE(pay({.layer = layer, .sequences = 1, .reads_context = reads}));
  }
  EXPECT_TRUE(pay({.layer = kLlama2, .sequences = 4, .reads_context = true, .exclusive_device = true}));
  EXPECT_TRUE(pay({.layer = kLlama3, .sequences = 1, .reads_context = true, .exclusive_device = true}));
  EXPECT_TRUE(pay({.layer = kQwen7B, .sequences = 1, .exclusive_device = true}));
  EXPECT_FALSE(pay({.layer = kQwen7B, .sequences = 1, .reads_context = true, .exclusive_device = true}))
      << "seven query heads share each key";
  EXPECT_FALSE(pay({.layer = kSmolLM2, .sequences = 1, .exclusive_device = true})) << "small layers";
  EXPECT_FALSE(pay({.layer = kLlama2, .sequences = 5, .exclusive_device = true})) << "more rows than a GEMV's";
  EXPECT_FALSE(pay({.layer = kLlama2, .sequences = 1, .quantised = true, .exclusive_device = true}));
  EXPECT_FALSE(pay({.layer = kLlama2, .sequences = 1, .exclusive_device = true, .device_runs_it = false}));
}

TEST(Dispatch, ACpuIsNoExclusiveDevice) { EXPECT_FALSE(device_is_exclusive(at::kCPU)); }

TEST(Dispatch, FusedGemmsWantFullRounds) {
  EXPECT_TRUE(fused_gemm_pays(256, 1, 66)) << "one round, however empty";
  EXPECT_TRUE(fused_gemm_pays(4096, 132, 66));
  EXPECT_TRUE(fused_gemm_pays(4096, 119, 66));
  EXPECT_FALSE(fused_gemm_pays(4096, 118, 66)) << "less than nine tenths of two rounds";
  EXPECT_FALSE(fused_gemm_pays(255, 66, 66)) << "not a tile of rows";
}

// Each limit is one of another's kernel: where these cross, an implementation could never be reached.
TEST(Dispatch, RangesFollowEachOther) {
  EXPECT_LT(kGemvRows, kSkinnyGemmRows);
  EXPECT_LT(kGemvRows, kGemmRowsOfInt4);
  EXPECT_LE(kGemmRowsOfInt4, kGemmRowsOfInt8);
  EXPECT_LT(kGemmRowsOfInt8, kWidenedRows);
  EXPECT_GT(kWidenedRowsOnCuda, kGemvRows);
  EXPECT_LT(kLatentProductRows, kTableProductRows);
  EXPECT_LT(kNormWidth, kNormForwardWidth);
}

}  // namespace
}  // namespace cepe::dispatch
