// What the arithmetic's precision may change, and what not.
#include <ATen/ATen.h>

#include <cstring>

#include "io/safetensors.h"
#include "model/checkpoint/checkpoint.h"
#include "train/trainer_fixture.h"

namespace cepe {
namespace {

bool is_trained(const std::string& name) {
  return name.rfind("encoder.", 0) == 0 || name.find("cross_attn") != std::string::npos;
}

// Frozen tensors leave as they came, bit for bit, whatever the arithmetic and the result's weights; trained ones
// change where the learning rate is above 0, and only there.
TEST_F(TrainerTest, TheDecoderStaysAsItIsInEveryPrecision) {
  const SafetensorsFile before(std::string(kPublished) + "/model.safetensors");
  for (Precision precision : {Precision::float32, Precision::bfloat16}) {
    for (const char* weights : {"f32", "bf16"}) {
      for (double learning_rate : {0.0, 1e-3}) {
        TrainJob run = job(fmt::format("{}-{}-{}", name_of(precision), weights, learning_rate), kPublished);
        run.config.precision = precision;
        run.config.weights = weights;
        run.config.learning_rate = learning_rate;
        run.config.steps = 3;
        train(run);
        const SafetensorsFile after(run.run / "final/model.safetensors");
        EXPECT_EQ(after.tensors().size(), before.tensors().size());
        int64_t frozen = 0, trained = 0;
        for (const TensorView& tensor : before.tensors()) {
          const TensorView* now = after.find(tensor.name);
          ASSERT_NE(now, nullptr) << tensor.name;
          const bool part = is_trained(tensor.name);
          ++(part ? trained : frozen);
          if (part && now->dtype != tensor.dtype) continue;  // rounded, as run.weights asks
          const bool equal = tensor.dtype == now->dtype &&
                             std::equal(tensor.bytes.begin(), tensor.bytes.end(), now->bytes.begin(), now->bytes.end());
          EXPECT_EQ(equal, !part || learning_rate == 0) << tensor.name << " " << run.run;
        }
        EXPECT_GT(frozen, 10);
        EXPECT_GT(trained, 10);
        const OpenedModel opened = open_model(run.run / "final");
        EXPECT_EQ(opened.kind, "published CEPE");
        EXPECT_EQ(nlohmann::json::parse(read_file(run.run / "final/config.json"))["torch_dtype"], "float32");
      }
    }
  }
}

// A decoder in bfloat16 leaves in bfloat16, its trained parts in the type asked for; tied and precomputed tensors too.
TEST_F(TrainerTest, ADecoderInAnotherTypeKeepsIt) {
  OpenedModel opened = open_model(std::string(kPublished));
  const fs::path base = directory_ / "narrow";
  export_published(opened.model, base, SaveOptions::Weights::bf16);
  TrainJob run = job("run", base.string());
  run.config.steps = 1;
  for (const char* weights : {"f32", "bf16"}) {
    run.run = directory_ / weights;
    run.config.weights = weights;
    train(run);
    const SafetensorsFile before(base / "model.safetensors"), after(run.run / "final/model.safetensors");
    for (const TensorView& tensor : before.tensors()) {
      const TensorView* now = after.find(tensor.name);
      ASSERT_NE(now, nullptr) << tensor.name;
      const DType asked = std::string(weights) == "f32" ? DType::f32 : tensor.dtype;
      EXPECT_EQ(now->dtype, is_trained(tensor.name) ? asked : tensor.dtype) << tensor.name;
      if (is_trained(tensor.name)) continue;
      EXPECT_TRUE(std::equal(tensor.bytes.begin(), tensor.bytes.end(), now->bytes.begin(), now->bytes.end()));
    }
    const nlohmann::json config = nlohmann::json::parse(read_file(run.run / "final/config.json"));
    EXPECT_EQ(config["torch_dtype"], std::string(weights) == "f32" ? "float32" : "bfloat16");
  }
}

// After one step the optimiser's averages are the gradient times 1 - beta: bfloat16's is float32's but for rounding,
// tensor by tensor. A cast that lost its way back to the float32 weights would leave zeros, or other directions.
TEST_F(TrainerTest, BFloat16GradientsAreFloat32sButForRounding) {
  for (const char* base : {kPlain, kPublished}) {
    TrainJob wide = job("wide", base), narrow = job("narrow", base);
    for (TrainJob* run : {&wide, &narrow}) {
      run->config.steps = 1;
      run->config.clip = 0;
      run->config.zero_output = false;
      run->config.context_chunks = {3};
    }
    wide.config.precision = Precision::float32;
    narrow.config.precision = Precision::bfloat16;
    train(wide);
    train(narrow);
    const double a = log(wide)[0]["gradient_norm"], b = log(narrow)[0]["gradient_norm"];
    EXPECT_NEAR(b, a, 0.03 * a);
    const SafetensorsFile exact(wide.run / "step-000001/optimizer.safetensors"),
        rounded(narrow.run / "step-000001/optimizer.safetensors");
    int64_t compared = 0;
    for (const TensorView& tensor : exact.tensors()) {
      if (tensor.name.rfind("exp_avg.", 0) != 0) continue;
      const auto values = [](const TensorView& view) {
        at::Tensor out = at::empty(view.shape, at::kFloat);
        std::memcpy(out.data_ptr(), view.bytes.data(), view.bytes.size());
        return out.to(at::kDouble);
      };
      const at::Tensor x = values(tensor), y = values(*rounded.find(tensor.name));
      const double size = x.norm().item<double>();
      EXPECT_GT(size, 0) << tensor.name;
      EXPECT_LT((y - x).norm().item<double>(), 0.1 * size) << tensor.name << " " << base;
      ++compared;
    }
    EXPECT_GT(compared, 10);
    fs::remove_all(wide.run);
    fs::remove_all(narrow.run);
  }
}

TEST_F(TrainerTest, BFloat16ArithmeticTrainsFloat32Weights) {
  TrainJob wide = job("wide", kPublished), narrow = job("narrow", kPublished);
  narrow.config.precision = Precision::bfloat16;
  train(wide);
  train(narrow);
  EXPECT_NEAR(log(wide)[0]["loss"].get<double>(), log(narrow)[0]["loss"].get<double>(), 0.03);
  const SafetensorsFile weights(narrow.run / "step-000012/model.safetensors");
  int64_t below_bfloat16 = 0;  // bits that a bfloat16 weight could not hold
  for (const TensorView& tensor : weights.tensors()) {
    ASSERT_EQ(tensor.dtype, DType::f32);
    for (size_t i = 0; i + 4 <= tensor.bytes.size(); i += 4)
      below_bfloat16 += tensor.bytes[i] != std::byte{0} || tensor.bytes[i + 1] != std::byte{0};
  }
  EXPECT_GT(below_bfloat16, 1000);
}

}  // namespace
}  // namespace cepe
