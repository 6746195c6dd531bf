#include "train/stages/working_copy.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include "model/checkpoint/checkpoint.h"
#include "ops/gemm/trained_products.h"
#include "train/trainer_fixture.h"

namespace cepe {
namespace {

TEST(WorkingCopy, CastsTogetherAsOneByOne) {
  at::manual_seed(5);
  std::vector<at::Tensor> weights;
  for (const std::vector<int64_t>& sizes : {std::vector<int64_t>{4, 8}, {3}, {2, 8}, {5, 5}})
    weights.push_back(at::randn(sizes, at::kFloat).requires_grad_());
  const auto loss = [](const std::vector<at::Tensor>& w, int64_t batch) {  // w[3] plays no part
    return (at::matmul(w[0], w[2].t()).to(at::kFloat) * (batch + 1)).sum() + w[1].to(at::kFloat).square().sum();
  };
  std::vector<at::Tensor> together = cast_together(weights, at::kBFloat16);
  std::vector<at::Tensor> single, found, wanted;
  for (const at::Tensor& weight : weights) single.push_back(weight.to(at::kBFloat16));
  for (size_t i = 0; i < weights.size(); ++i) {
    EXPECT_TRUE(at::equal(together[i], single[i])) << i;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(together[i].const_data_ptr()) % 16, 0u) << i;
  }
  for (const auto* copies : {&together, &single}) {  // two batches on one copy
    for (int64_t batch = 0; batch < 2; ++batch) loss(*copies, batch).backward();
    for (at::Tensor& weight : weights) {
      (copies == &together ? found : wanted).push_back(weight.grad());
      weight.mutable_grad() = at::Tensor();
    }
  }
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(at::equal(found[i], wanted[i])) << i;
  EXPECT_FALSE(found[3].defined());
}

// What a layer multiplies the same rows with stands together, in both kinds of model; nothing is copied in float32.
TEST(WorkingCopy, WeightsOfALayerStandTogether) {
  OpenOptions options;
  options.trained_dtype = at::kFloat;
  options.dtype = at::kBFloat16;
  Cepe model = open_model(kPublished, options).model;
  set_trainable(model, true);
  const Cepe copy = working_copy(model, at::kBFloat16);
  const SelfAttention& self = copy.encoder->stack.layers[0].self_attention;
  const FeedForward& mlp = copy.encoder->stack.layers[0].feed_forward;
  EXPECT_TRUE(stand_together({self.q.weight, self.k.weight, self.v.weight}));
  EXPECT_TRUE(stand_together({mlp.gate.weight, mlp.up.weight}));
  EXPECT_TRUE(at::equal(self.o.weight, model.encoder->stack.layers[0].self_attention.o.weight.to(at::kBFloat16)));
  EXPECT_TRUE(self.o.weight.requires_grad());
  const at::Tensor& frozen = copy.decoder.stack.layers[0].self_attention.o.weight;
  EXPECT_EQ(frozen.const_data_ptr(), model.decoder.stack.layers[0].self_attention.o.weight.const_data_ptr());
  const Cepe same = working_copy(copy, at::kBFloat16);
  EXPECT_EQ(same.encoder->stack.norm.const_data_ptr(), copy.encoder->stack.norm.const_data_ptr());
}

}  // namespace
}  // namespace cepe
