// The CUDA kernels against the same formulas in float64 ATen operations, on the same bfloat16 inputs: outputs and
// gradients, odd sizes, strided and unaligned tensors. Prints the errors, and times at the sizes of training against
// the composite form that a build without these kernels would run.
#include <ATen/ATen.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAEvent.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <iostream>
#include <limits>
#include <string>
#include <vector>

#include "base/report.h"
#include "ops/cuda_device.h"
#include "ops/elementwise/elementwise_cuda.h"
#include "ops/ops.h"

namespace cepe {
namespace {

using Tensors = std::vector<at::Tensor>;
using Operation = std::function<Tensors(const Tensors&)>;

// Collects rows during the tests and prints them as one table at the end.
class Printed : public testing::Environment {
 public:
  explicit Printed(std::vector<std::string> header) : table_(std::move(header)) {}
  void add(std::vector<std::string> row) { table_.add_row(std::move(row)), ++rows_; }
  void TearDown() override {
    if (rows_ > 0) std::cout << "\n" << table_.str() << std::endl;
  }

 private:
  Table table_;
  int rows_ = 0;
};

// GoogleTest owns and deletes environments.
Printed& errors() {
  static Printed* const table = new Printed({"op", "case", "output error", "gradient error", "allowed"});
  return *table;
}
Printed& times() {
  static Printed* const table = new Printed({"op", "size", "forward ms", "backward ms", "composite", "its backward"});
  return *table;
}
[[maybe_unused]] const auto* const registered_errors = testing::AddGlobalTestEnvironment(&errors());
[[maybe_unused]] const auto* const registered_times = testing::AddGlobalTestEnvironment(&times());

class Fused : public testing::Test {
 protected:
  void SetUp() override {
    require_cuda();
    at::manual_seed(11);
    configure_attention_backends();
  }
};

at::TensorOptions on_gpu() { return at::TensorOptions().device(at::kCUDA).dtype(at::kBFloat16); }
at::Tensor random(at::IntArrayRef shape) { return at::randn(shape, on_gpu()); }

// A tensor whose data does not start at a multiple of 16 bytes.
at::Tensor unaligned(at::IntArrayRef shape) {
  return random({c10::multiply_integers(shape) + 1}).narrow(0, 1, c10::multiply_integers(shape)).view(shape);
}

// Fills the memory that the next allocations of this size will get with not-a-number.
void poison(int64_t elements) {
  Tensors held;
  for (int i = 0; i < 8; ++i) held.push_back(at::full({elements}, std::numeric_limits<float>::quiet_NaN(), on_gpu()));
}

// Largest difference as a part of the reference's largest value; infinite where anything is not finite.
double error_of(const at::Tensor& found, const at::Tensor& reference) {
  if (found.sizes() != reference.sizes() || !found.isfinite().all().item<bool>()) {
    return std::numeric_limits<double>::infinity();
  }
  if (found.numel() == 0) return 0;
  const double scale = reference.abs().max().item<double>();
  const double difference = (found.to(at::kDouble) - reference).abs().max().item<double>();
  return scale > 0 ? difference / scale : difference;
}

Tensors leaves(const Tensors& inputs, at::ScalarType type) {
  Tensors out;
  for (const at::Tensor& x : inputs) {
    // Keeps strides and storage offset in bfloat16: those are what is tested.
    out.push_back((type == x.scalar_type() ? x.detach() : x.detach().to(type)).requires_grad_(true));
  }
  return out;
}

// Each output times its probe; the probes are laid out with their first two dimensions swapped, which gives the
// operation gradients that are not contiguous.
at::Tensor score(const Tensors& outputs, const Tensors& probes) {
  at::Tensor total;
  for (size_t i = 0; i < outputs.size(); ++i) {
    const bool swap = outputs[i].dim() > 1;
    const at::Tensor out = swap ? outputs[i].transpose(0, 1) : outputs[i];
    const at::Tensor part = (out * probes[i].to(out.scalar_type())).sum();
    total = total.defined() ? total + part : part;
  }
  return total;
}

struct Case {
  std::string op, name;
  Operation fused, reference;
  Tensors inputs;    // bfloat16, all differentiable
  double tolerance;  // of the largest value
};

void check(const Case& c) {
  const Tensors in = leaves(c.inputs, at::kBFloat16), in64 = leaves(c.inputs, at::kDouble);
  const Tensors out = c.fused(in), out64 = c.reference(in64);
  ASSERT_EQ(out.size(), out64.size());
  Tensors probes;
  double output_error = 0, gradient_error = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    probes.push_back(at::randn_like(out[i].dim() > 1 ? out[i].transpose(0, 1).contiguous() : out[i]));
    output_error = std::max(output_error, error_of(out[i], out64[i]));
  }
  poison(c.inputs[0].numel());
  const Tensors grads = torch::autograd::grad({score(out, probes)}, in);
  const Tensors grads64 = torch::autograd::grad({score(out64, probes)}, in64);
  for (size_t i = 0; i < grads.size(); ++i) gradient_error = std::max(gradient_error, error_of(grads[i], grads64[i]));
  errors().add({c.op, c.name, fmt::format("{:.2e}", output_error), fmt::format("{:.2e}", gradient_error),
                fmt::format("{:.0e}", c.tolerance)});
  EXPECT_LE(output_error, c.tolerance) << c.op << " " << c.name << ", output";
  EXPECT_LE(gradient_error, c.tolerance) << c.op << " " << c.name << ", gradient";
}

// One rounding to bfloat16 moves a value by at most 2^-8 of it.
constexpr double kOneRounding = 4e-3, kTwoRoundings = 8e-3;

// ---------------------------------------------------------------------------------------------- formulas in ATen

Tensors rotary_composite(const Tensors& in, const RotaryTable& table, int64_t first) {
  const int64_t T = in[0].size(1);
  const at::ScalarType wide = in[0].scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const at::Tensor cos = table.cos.narrow(0, first, T).to(wide).view({1, T, 1, -1});
  const at::Tensor sin = table.sin.narrow(0, first, T).to(wide).view({1, T, 1, -1});
  const Tensors halves = in[0].to(wide).chunk(2, -1);
  const at::Tensor &a = halves[0], &b = halves[1];
  return {at::cat({a * cos - b * sin, b * cos + a * sin}, -1).to(in[0].scalar_type())};
}

Tensors swiglu_composite(const Tensors& in) { return {at::silu(in[0]) * in[1]}; }

Tensors norm_by_hand(const Tensors& in) { return {in[0] * at::rsqrt(in[0].square().mean(-1, true) + 1e-5) * in[1]}; }

// What is normalised is the sum as stored, in bfloat16; the rounding has no gradient of its own.
Tensors add_norm_by_hand(const Tensors& in) {
  const at::Tensor sum = in[0] + in[1], rounding = (sum.to(at::kBFloat16).to(at::kDouble) - sum).detach();
  return {sum, norm_by_hand({sum + rounding, in[2]})[0]};
}

// Softmax over the allowed scores only, in the inputs' own type; rows without a key give zeros.
Tensors attention_by_hand(const Tensors& in, const at::Tensor& allowed) {
  const int64_t repeat = in[0].size(2) / in[1].size(2);
  const at::Tensor q = in[0].transpose(1, 2), k = in[1].transpose(1, 2).repeat_interleave(repeat, 1);
  const at::Tensor v = in[2].transpose(1, 2).repeat_interleave(repeat, 1);
  const at::Tensor scores = at::matmul(q, k.transpose(2, 3)) / std::sqrt(static_cast<double>(q.size(3)));
  const at::Tensor weights = (scores - scores.amax(-1, true).detach()).exp() * allowed;
  return {at::matmul(weights / weights.sum(-1, true).clamp_min(1e-30), v).transpose(1, 2)};
}

RotaryTable table_for(int64_t positions, int64_t head_size) {
  const at::Tensor angle = at::arange(positions, at::kDouble).unsqueeze(1) *
                           at::pow(1e5, at::arange(0, head_size, 2, at::kDouble) / -static_cast<double>(head_size));
  return {angle.cos().to(at::kCUDA, at::kFloat), angle.sin().to(at::kCUDA, at::kFloat)};
}

// ---------------------------------------------------------------------------------------------- correctness

void check_rotary(const std::string& name, const at::Tensor& x, int64_t first) {
  const RotaryTable table = table_for(first + x.size(1), x.size(3));
  check({"rotary",
         name,
         [=](const Tensors& in) { return Tensors{rotary(in[0], table, first)}; },
         [=](const Tensors& in) { return rotary_composite(in, table, first); },
         {x},
         kOneRounding});
}

TEST_F(Fused, Rotary) {
  check_rotary("2x5x9x64", random({2, 5, 9, 64}), 0);
  check_rotary("3x257x3x64, first 100", random({3, 257, 3, 64}), 100);
  check_rotary("2x7x3x128", random({2, 7, 3, 128}), 1);
  check_rotary("head of 6", random({2, 5, 3, 6}), 3);
  check_rotary("head of 2", random({1, 1, 1, 2}), 3);
  check_rotary("head of 24", random({2, 3, 5, 24}), 2);
  check_rotary("unaligned", unaligned({2, 5, 9, 64}), 0);
  // Queries inside a merged projection, heads before positions, and a slice of the positions.
  check_rotary("slice of 2x5x960", random({2, 5, 960}).narrow(2, 576, 192).unflatten(2, {3, 64}), 4);
  check_rotary("odd stride", random({2, 5, 195}).narrow(2, 3, 192).unflatten(2, {3, 64}), 0);
  check_rotary("transposed", random({2, 9, 5, 64}).transpose(1, 2), 0);
  check_rotary("every second token", random({2, 10, 3, 64}).slice(1, 0, 10, 2), 0);
}

void check_swiglu(const std::string& name, const at::Tensor& gate, const at::Tensor& up) {
  check({"swiglu",
         name,
         [](const Tensors& in) { return Tensors{swiglu(in[0], in[1])}; },
         swiglu_composite,
         {gate, up},
         kOneRounding});
}

TEST_F(Fused, Swiglu) {
  for (int64_t n : {1, 7, 8, 9, 1001, 1536 * 300}) check_swiglu(std::to_string(n), random({n}) * 6, random({n}));
  check_swiglu("3x17", random({3, 17}), random({3, 17}));
  check_swiglu("unaligned", unaligned({3, 24}), random({3, 24}));
  check_swiglu("halves of a merged projection", random({5, 48}).narrow(1, 0, 24), random({5, 48}).narrow(1, 24, 24));
  check_swiglu("large values", random({4, 64}) * 100, random({4, 64}) * 100);
}

void check_norm(const std::string& name, const at::Tensor& x) {
  const at::Tensor weight = random({x.size(-1)});
  check({"rms_norm",
         name,
         [](const Tensors& in) { return Tensors{rms_norm(in[0], in[1], 1e-5)}; },
         norm_by_hand,
         {x, weight},
         fused_norm_applies(x, weight) ? kOneRounding : kTwoRoundings});
  check({"add_rms_norm",
         name,
         [](const Tensors& in) {
           const NormedSum out = add_rms_norm(in[0], in[1], in[2], 1e-5);
           return Tensors{out.sum, out.normed};
         },
         add_norm_by_hand,
         {x, random(x.sizes()), weight},
         kTwoRoundings});
}

TEST_F(Fused, RmsNorm) {
  for (int64_t width : {8, 64, 128, 248, 256, 264, 512, 576, 768, 960, 1024, 2048}) {
    check_norm("37x" + std::to_string(width), random({37, width}));
  }
  check_norm("1x576", random({1, 576}));
  check_norm("20001x576", random({20001, 576}));
  check_norm("3x5x9x64", random({3, 5, 9, 64}));
  check_norm("unaligned 5x64", unaligned({5, 64}));
  check_norm("transposed", random({64, 5, 3}).transpose(0, 2));
  // These widths go to LibTorch's own kernel.
  check_norm("5x570", random({5, 570}));
  check_norm("5x4096", random({5, 4096}));
}

TEST_F(Fused, FrozenNormGivesTheSameInputGradient) {
  const at::Tensor weight = random({576}), probe = random({100, 576});
  const at::Tensor x = random({100, 576}).requires_grad_(true), trained = weight.clone().requires_grad_(true);
  const at::Tensor frozen_grad = torch::autograd::grad({(rms_norm(x, weight, 1e-5) * probe).sum()}, {x})[0];
  const at::Tensor trained_grad = torch::autograd::grad({(rms_norm(x, trained, 1e-5) * probe).sum()}, {x})[0];
  EXPECT_TRUE(at::equal(frozen_grad, trained_grad));
  // Only one of the two outputs used.
  const NormedSum out = add_rms_norm(x, probe, weight, 1e-5);
  EXPECT_TRUE(at::equal(torch::autograd::grad({out.sum.sum()}, {x}, {}, true)[0], at::ones_like(x)));
  const at::Tensor only_normed = torch::autograd::grad({(out.normed * probe).sum()}, {x})[0];
  const at::Tensor sum = out.sum.detach().requires_grad_(true);
  const at::Tensor expected = torch::autograd::grad({(rms_norm(sum, weight, 1e-5) * probe).sum()}, {sum})[0];
  EXPECT_TRUE(at::equal(only_normed, expected));
}

TEST_F(Fused, CrossEntropy) {
  for (int64_t vocabulary : {1, 3, 8, 1000, 1023, 8191, 32001, 49152, 128256, 262144, 262147}) {
    const int64_t rows = 13;
    at::Tensor logits = random({rows, vocabulary}) * 4;
    const at::Tensor wide = logits.to(at::kDouble).requires_grad_(true);
    at::Tensor labels = at::randint(vocabulary, {rows}, on_gpu().dtype(at::kLong));
    labels[0] = 0, labels[1] = vocabulary - 1, labels[2] = -100, labels[7] = -1;
    const at::Tensor scored = labels.ge(0);
    const at::Tensor loss64 = -wide.log_softmax(-1).gather(1, labels.clamp_min(0).unsqueeze(1)).squeeze(1) * scored;
    const at::Tensor grad64 = torch::autograd::grad({loss64.sum()}, {wide})[0];
    at::Tensor untouched = logits.clone();
    const at::Tensor loss_only = fused_cross_entropy(untouched, labels, false);
    EXPECT_TRUE(at::equal(untouched, logits));
    const at::Tensor loss = fused_cross_entropy(logits, labels, true);
    EXPECT_TRUE(at::equal(loss, loss_only));
    const double loss_error = error_of(loss, loss64.detach()), grad_error = error_of(logits, grad64);
    errors().add({"cross_entropy", fmt::format("13x{}", vocabulary), fmt::format("{:.2e}", loss_error),
                  fmt::format("{:.2e}", grad_error), "1e-05, 4e-03"});
    EXPECT_LE(loss_error, 1e-5) << vocabulary;
    EXPECT_LE(grad_error, kOneRounding) << vocabulary;
    EXPECT_EQ(logits[2].abs().max().item<float>(), 0.f);
  }
}

TEST_F(Fused, CrossEntropyOfExtremeLogits) {
  at::Tensor logits = at::full({3, 1000}, -3e4, on_gpu());
  logits[0][5] = 3e4;
  logits[1].fill_(3e4);
  const at::Tensor labels = at::tensor({5, 7, 1000}, at::kLong).to(at::kCUDA);
  const at::Tensor loss = fused_cross_entropy(logits, labels, true).cpu();
  // float32 holds 3e4 / ln 2 to 2^-8, so a loss between such logits is known to no better.
  EXPECT_NEAR(loss[0].item<float>(), 0, 0.004);
  EXPECT_NEAR(loss[1].item<float>(), std::log(1000.0), 0.02);
  EXPECT_TRUE(loss[2].isnan().item<bool>());  // a label beyond the vocabulary
  EXPECT_TRUE(logits.isfinite().all().item<bool>());
}

TEST_F(Fused, LinearCrossEntropyAcrossBlocks) {
  const int64_t rows = 8192 + 77;
  const at::Tensor hidden = random({rows, 64}), head = random({1003, 64}) / 8;  // logits of about one
  at::Tensor labels = at::randint(1003, {rows}, on_gpu().dtype(at::kLong));
  labels.narrow(0, 8150, 100).fill_(-100);  // on both sides of the block's end at 8192
  // The logits are rounded to bfloat16 before the softmax.
  check({"linear_cross_entropy",
         "8269x64, V 1003",
         [=](const Tensors& in) { return Tensors{linear_cross_entropy_sum(in[0], head, labels)}; },
         [=](const Tensors& in) {
           const at::Tensor log_probs = at::linear(in[0], head.to(at::kDouble)).log_softmax(-1);
           const at::Tensor picked = log_probs.gather(1, labels.clamp_min(0).unsqueeze(1)).squeeze(1);
           return Tensors{-(picked * labels.ge(0)).sum()};
         },
         {hidden},
         1e-2});
}

TEST_F(Fused, LinearCrossEntropyWithWeights) {
  const int64_t rows = 8192 + 77;
  const at::Tensor hidden = random({rows, 64}), head = random({1003, 64}) / 8;
  const at::Tensor labels = at::randint(1003, {rows}, on_gpu().dtype(at::kLong));
  const at::Tensor weight = at::randint(4, {rows}, on_gpu().dtype(at::kFloat)) * 0.75;
  check({"weighted linear_cross_entropy",
         "8269x64, V 1003",
         [=](const Tensors& in) { return Tensors{linear_cross_entropy_sum(in[0], head, labels, weight)}; },
         [=](const Tensors& in) {
           const at::Tensor log_probs = at::linear(in[0], head.to(at::kDouble)).log_softmax(-1);
           return Tensors{-(log_probs.gather(1, labels.unsqueeze(1)).squeeze(1) * weight).sum()};
         },
         {hidden},
         1e-2});
}

struct Sizes {
  int64_t B, T, S, H, G, K;
};

void check_attention(const std::string& name, const Sizes& n, const AttentionMask& mask) {
  at::Tensor allowed = at::ones({n.T, n.S}, on_gpu().dtype(at::kBool));
  if (mask.causal) allowed = allowed.tril(n.S - n.T);
  if (mask.keys_BS.defined()) allowed = allowed.logical_and(mask.keys_BS.view({n.B, 1, 1, n.S}));
  check({"attention",
         name,
         [=](const Tensors& in) { return Tensors{attention(in[0], in[1], in[2], mask)}; },
         [=](const Tensors& in) { return attention_by_hand(in, allowed); },
         {random({n.B, n.T, n.H, n.K}), random({n.B, n.S, n.G, n.K}), random({n.B, n.S, n.G, n.K})},
         3e-2});
}

at::Tensor random_keys(int64_t B, int64_t S, double part) {
  return at::rand({B, S}, on_gpu().dtype(at::kFloat)).lt(part);
}

TEST_F(Fused, Attention) {
  check_attention("whole", {2, 100, 130, 9, 3, 64}, {});
  check_attention("causal", {2, 100, 100, 9, 3, 64}, {true, {}});
  check_attention("causal, appended", {2, 100, 230, 9, 3, 64}, {true, {}});
  check_attention("causal, appended, 2 queries", {2, 2, 300, 9, 3, 64}, {true, {}});
  check_attention("one query", {2, 1, 300, 9, 3, 64}, {true, {}});
  check_attention("masked keys", {3, 100, 260, 9, 3, 64}, {false, random_keys(3, 260, 0.7)});
  check_attention("masked keys, one query", {3, 1, 260, 9, 3, 64}, {false, random_keys(3, 260, 0.7)});
  check_attention("masked keys, one group", {2, 65, 67, 4, 1, 32}, {false, random_keys(2, 67, 0.5)});
  check_attention("masked keys, no groups", {2, 65, 67, 4, 4, 128}, {false, random_keys(2, 67, 0.5)});
  check_attention("masked keys, all real", {2, 64, 128, 9, 3, 64}, {false, random_keys(2, 128, 2)});
  at::Tensor keys = random_keys(4, 200, 0.5);
  keys[1].fill_(false), keys[3].fill_(false);
  check_attention("sequences without keys", {4, 70, 200, 9, 3, 64}, {false, keys});
  check_attention("no key at all", {2, 70, 200, 9, 3, 64}, {false, random_keys(2, 200, -1)});
  const at::Tensor prefix = at::arange(96, on_gpu().dtype(at::kLong)).lt(80).expand({2, 96});
  check_attention("causal, padded", {2, 96, 96, 9, 3, 64}, {true, prefix});
  check_attention("head of 12, masked keys", {2, 33, 40, 4, 2, 12}, {false, random_keys(2, 40, 0.7)});
}

// ---------------------------------------------------------------------------------------------- times

struct Milliseconds {
  double forward, backward;
};

double mean_ms(const std::function<void()>& work) {
  constexpr int warm_up = 3, runs = 20;
  for (int i = 0; i < warm_up; ++i) work();
  at::cuda::CUDAEvent start(cudaEventDefault), end(cudaEventDefault);
  start.record();
  for (int i = 0; i < runs; ++i) work();
  end.record();
  end.synchronize();
  return start.elapsed_time(end) / runs;
}

Milliseconds time_of(const Operation& operation, const Tensors& inputs) {
  Milliseconds out{};
  {
    const at::NoGradGuard no_grad;
    out.forward = mean_ms([&] { operation(inputs); });
  }
  const Tensors in = leaves(inputs, inputs[0].scalar_type()), results = operation(in);
  Tensors grads;
  for (const at::Tensor& x : results) grads.push_back(at::randn_like(x));
  out.backward = mean_ms([&] { torch::autograd::grad(results, in, grads, /*retain_graph=*/true); });
  return out;
}

void compare(const std::string& op, const std::string& size, const Operation& ours, const Operation& composite,
             const Tensors& inputs) {
  const Milliseconds a = time_of(ours, inputs), b = time_of(composite, inputs);
  times().add({op, size, fmt::format("{:.3f}", a.forward), fmt::format("{:.3f}", a.backward),
               fmt::format("{:.3f}", b.forward), fmt::format("{:.3f}", b.backward)});
}

// One micro-batch of a SmolLM2-135M with an encoder: 16 samples of 4096 context and 1024 decoder tokens.
class Times : public Fused {};

TEST_F(Times, Elementwise) {
  const RotaryTable table = table_for(1024, 64);
  const auto ours_rotary = [&](const Tensors& in) { return Tensors{rotary(in[0], table, 0)}; };
  const auto aten_rotary = [&](const Tensors& in) { return rotary_composite(in, table, 0); };
  compare("rotary", "256x256x9x64", ours_rotary, aten_rotary, {random({256, 256, 9, 64})});
  compare("rotary", "16x1024x3x64", ours_rotary, aten_rotary, {random({16, 1024, 3, 64})});
  const auto ours_swiglu = [](const Tensors& in) { return Tensors{swiglu(in[0], in[1])}; };
  for (int64_t rows : {65536, 16384}) {
    const std::string size = std::to_string(rows);
    compare("swiglu", size + "x1536", ours_swiglu, swiglu_composite, {random({rows, 1536}), random({rows, 1536})});
    const at::Tensor x = random({rows, 576}), y = random({rows, 576}), weight = random({576});
    const auto ours = [](const Tensors& in) { return Tensors{rms_norm(in[0], in[1], 1e-5)}; };
    const auto aten = [](const Tensors& in) { return Tensors{at::rms_norm(in[0], {576}, in[1], 1e-5)}; };
    compare("rms_norm", size + "x576", ours, aten, {x, weight});
    const auto ours_frozen = [&](const Tensors& in) { return Tensors{rms_norm(in[0], weight, 1e-5)}; };
    const auto aten_frozen = [&](const Tensors& in) { return Tensors{at::rms_norm(in[0], {576}, weight, 1e-5)}; };
    compare("rms_norm, frozen", size + "x576", ours_frozen, aten_frozen, {x});
    const auto ours_add = [](const Tensors& in) {
      const NormedSum out = add_rms_norm(in[0], in[1], in[2], 1e-5);
      return Tensors{out.sum, out.normed};
    };
    const auto aten_add = [](const Tensors& in) {
      const at::Tensor sum = in[0] + in[1];
      return Tensors{sum, at::rms_norm(sum, {576}, in[2], 1e-5)};
    };
    compare("add_rms_norm", size + "x576", ours_add, aten_add, {x, y, weight});
  }
}

TEST_F(Times, CrossEntropy) {
  const at::Tensor logits = random({8192, 49152}), labels = at::randint(49152, {8192}, on_gpu().dtype(at::kLong));
  at::Tensor scratch = logits.clone();
  const double loss_only = mean_ms([&] { fused_cross_entropy(scratch, labels, false); });
  // Repeats run on what the last one left: the work is the same for any finite logits.
  const double with_gradient = mean_ms([&] { fused_cross_entropy(scratch, labels, true); });
  const auto composite = [&] { return -logits.to(at::kFloat).log_softmax(-1).gather(1, labels.unsqueeze(1)); };
  const double aten_loss = mean_ms([&] { composite(); });
  const double aten_both = mean_ms([&] {
    at::Tensor grad = logits.to(at::kFloat).log_softmax(-1).exp_();
    grad.scatter_add_(1, labels.unsqueeze(1), at::full({8192, 1}, -1, grad.options()));
    return grad.to(at::kBFloat16);
  });
  times().add({"cross_entropy", "8192x49152", fmt::format("{:.3f}", loss_only),
               fmt::format("{:.3f} (both)", with_gradient), fmt::format("{:.3f}", aten_loss),
               fmt::format("{:.3f} (both)", aten_both)});
}

// The composite is LibTorch's own choice of kernel under a boolean mask.
void compare_attention(const std::string& name, const Sizes& n, const AttentionMask& mask) {
  at::Tensor allowed = at::ones({n.T, n.S}, on_gpu().dtype(at::kBool)).tril(mask.causal ? n.S - n.T : n.S);
  if (mask.keys_BS.defined()) {
    allowed = allowed.logical_and(mask.keys_BS.view({n.B, 1, 1, n.S})).expand({n.B, 1, n.T, n.S});
  }
  const auto ours = [&](const Tensors& in) { return Tensors{attention(in[0], in[1], in[2], mask)}; };
  const auto by_mask = [&](const Tensors& in) {
    return Tensors{at::scaled_dot_product_attention(in[0].transpose(1, 2), in[1].transpose(1, 2), in[2].transpose(1, 2),
                                                    allowed, 0.0, false, std::nullopt, n.H != n.G)
                       .transpose(1, 2)};
  };
  compare("attention", name, ours, by_mask,
          {random({n.B, n.T, n.H, n.K}), random({n.B, n.S, n.G, n.K}), random({n.B, n.S, n.G, n.K})});
}

TEST_F(Times, Attention) {
  const at::Tensor context = random_keys(16, 4096, 0.85), chunks = context.view({256, 256});
  compare_attention("cross 16x1024 on 4096, 85 % real", {16, 1024, 4096, 9, 3, 64}, {false, context});
  compare_attention("cross 16x1024 on 4096, no mask", {16, 1024, 4096, 9, 3, 64}, {});
  compare_attention("chunks 256x256, 85 % real", {256, 256, 256, 9, 3, 64}, {false, chunks});
  compare_attention("chunks 256x256, no mask", {256, 256, 256, 9, 3, 64}, {});
  compare_attention("decoder 16x1024, causal", {16, 1024, 1024, 9, 3, 64}, {true, {}});
  compare_attention("appended 16x256 on 1024, causal", {16, 256, 1024, 9, 3, 64}, {true, {}});
}

}  // namespace
}  // namespace cepe
