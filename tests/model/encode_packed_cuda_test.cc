// Packed chunks on a GPU, where attention is the flash kernel for sequences of different lengths, beside padded ones.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "model/fixtures.h"
#include "ops/cuda_device.h"

namespace cepe {
namespace {

class PackedEncoder : public testing::TestWithParam<std::vector<int64_t>> {
 protected:
  void SetUp() override {
    require_cuda();
    at::manual_seed(23);
    reference_ = random_model(small_config("smollm2-135m+4x2", 6, 2, 64), {.device = at::kCUDA, .dtype = at::kFloat});
    const int64_t longest = *std::max_element(GetParam().begin(), GetParam().end()), count = std::ssize(GetParam());
    ids_ML_ = at::randint(1000, {count, longest}, at::TensorOptions().device(at::kCUDA).dtype(at::kLong));
    mask_ML_ = at::zeros({count, longest}, ids_ML_.options().dtype(at::kBool));
    for (int64_t i = 0; i < count; ++i) mask_ML_[i].narrow(0, 0, GetParam()[i]).fill_(true);
  }
  at::Tensor padded(const Cepe& model) const {
    const Latents latents = encode(model, {ids_ML_.unsqueeze(0), mask_ML_.unsqueeze(0)});
    return latents.states_BSE[0].index({mask_ML_.flatten()});
  }
  at::Tensor packed(const Cepe& model, int64_t at_once = 0) const {
    return encode_packed(model, {ids_ML_.masked_select(mask_ML_), GetParam()}, {at_once}).states_BSE[0];
  }

  const at::NoGradGuard no_grad_;
  Cepe reference_;
  at::Tensor ids_ML_, mask_ML_;
};

TEST_P(PackedEncoder, InFloat32) { EXPECT_LT(norm_error(packed(reference_), padded(reference_)), 1e-5); }

// No further from float32 than the padded form is.
TEST_P(PackedEncoder, InBfloat16) {
  const at::Tensor exact = padded(reference_);
  const Cepe narrow = cast(reference_, at::kBFloat16);
  const double of_padded = norm_error(padded(narrow), exact);
  EXPECT_GT(of_padded, 0);
  EXPECT_LT(norm_error(packed(narrow), exact), 1.1 * of_padded);
  EXPECT_LT(norm_error(packed(narrow, 3), exact), 1.1 * of_padded);
}

INSTANTIATE_TEST_SUITE_P(Lengths, PackedEncoder,
                         testing::Values(std::vector<int64_t>{1, 5, 256, 100, 256, 63, 300}, std::vector<int64_t>{1, 2},
                                         std::vector<int64_t>{70, 70, 70}, std::vector<int64_t>(150, 129)));

}  // namespace
}  // namespace cepe
