// Every operation of ops.h on the CPU against the formula of its header, written again as plain loops in double, and
// its gradients against central differences of those loops.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "base/error.h"
#include "ops/ops.h"

namespace cepe {
namespace {

using Values = std::vector<double>;
using Operation = std::function<at::Tensor(const std::vector<at::Tensor>&)>;
using Reference = std::function<Values(const std::vector<Values>&)>;

Values values(const at::Tensor& t) {
  const at::Tensor flat = t.detach().to(at::kDouble).contiguous();
  return Values(flat.data_ptr<double>(), flat.data_ptr<double>() + flat.numel());
}

double dot(const Values& a, const Values& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

void expect_close(const Values& found, const Values& expected, double tolerance, const std::string& what) {
  ASSERT_EQ(found.size(), expected.size()) << what;
  double scale = 0;
  for (double x : expected) scale = std::max(scale, std::abs(x));
  for (size_t i = 0; i < found.size(); ++i) {
    ASSERT_NEAR(found[i], expected[i], tolerance * std::max(scale, 1e-3)) << what << ", element " << i;
  }
}

at::Tensor random(at::IntArrayRef shape) { return at::randn(shape, at::kDouble); }

// d (reference . probe) / d inputs[which], by central differences.
Values numeric_gradient(const Reference& reference, std::vector<Values> inputs, size_t which, const Values& probe) {
  constexpr double step = 1e-5;
  Values gradient;
  for (double& x : inputs[which]) {
    const double kept = x;
    x = kept + step;
    const double up = dot(reference(inputs), probe);
    x = kept - step;
    const double down = dot(reference(inputs), probe);
    x = kept;
    gradient.push_back((up - down) / (2 * step));
  }
  return gradient;
}

// Runs the operation in one type; returns its output and the gradients of (output . probe).
std::vector<Values> run(const Operation& operation, const std::vector<at::Tensor>& inputs, at::ScalarType type,
                        const Values& probe) {
  std::vector<at::Tensor> leaves;
  for (const at::Tensor& x : inputs) leaves.push_back(x.detach().to(type).clone().requires_grad_(true));
  const at::Tensor out = operation(leaves);
  EXPECT_EQ(out.scalar_type(), type);
  const at::Tensor weights = at::tensor(probe, at::kDouble).view(out.sizes()).to(type);
  std::vector<Values> results{values(out)};
  for (const at::Tensor& g : torch::autograd::grad({(out * weights).sum()}, leaves)) results.push_back(values(g));
  return results;
}

void check(const Operation& operation, const Reference& reference, const std::vector<at::Tensor>& inputs) {
  std::vector<Values> numbers;
  for (const at::Tensor& x : inputs) numbers.push_back(values(x));
  const Values expected = reference(numbers);
  Values probe = values(random({static_cast<int64_t>(expected.size())}));
  const std::vector<Values> in_double = run(operation, inputs, at::kDouble, probe);
  expect_close(in_double[0], expected, 1e-12, "float64 output");
  for (size_t i = 0; i < inputs.size(); ++i) {
    const std::string name = "gradient of input " + std::to_string(i);
    expect_close(in_double[i + 1], numeric_gradient(reference, numbers, i, probe), 1e-7, "float64 " + name);
  }
  const std::vector<Values> in_float = run(operation, inputs, at::kFloat, probe);
  const std::vector<Values> in_bfloat = run(operation, inputs, at::kBFloat16, probe);
  for (size_t i = 0; i < in_double.size(); ++i) {
    const std::string name = i == 0 ? "output" : "gradient of input " + std::to_string(i - 1);
    expect_close(in_float[i], in_double[i], 2e-5, "float32 " + name);
    expect_close(in_bfloat[i], in_double[i], 5e-2, "bfloat16 " + name);
  }
}

// ---------------------------------------------------------------------------------------------- norms

Values rms_norm_reference(const Values& x, const Values& weight, double eps) {
  const size_t D = weight.size();
  Values y(x.size());
  for (size_t row = 0; row < x.size() / D; ++row) {
    double squares = 0;
    for (size_t d = 0; d < D; ++d) squares += x[row * D + d] * x[row * D + d];
    for (size_t d = 0; d < D; ++d) y[row * D + d] = x[row * D + d] / std::sqrt(squares / D + eps) * weight[d];
  }
  return y;
}

TEST(RmsNorm, MatchesTheFormula) {
  for (int64_t width : {3, 7, 16}) {
    at::manual_seed(width);
    check([](const auto& in) { return rms_norm(in[0], in[1], 1e-3); },
          [](const auto& in) { return rms_norm_reference(in[0], in[1], 1e-3); },
          {random({2, 3, width}), random({width})});
  }
}

TEST(AddRmsNorm, GivesTheSumAndItsNorm) {
  at::manual_seed(2);
  const auto reference = [](const std::vector<Values>& in) {
    Values sum = in[0];
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += in[1][i];
    const Values normed = rms_norm_reference(sum, in[2], 1e-5);
    sum.insert(sum.end(), normed.begin(), normed.end());
    return sum;
  };
  check(
      [](const auto& in) {
        const NormedSum out = add_rms_norm(in[0], in[1], in[2], 1e-5);
        return at::cat({out.sum.flatten(), out.normed.flatten()});
      },
      reference, {random({2, 3, 8}), random({2, 3, 8}), random({8})});
}

// ---------------------------------------------------------------------------------------------- rotary

RotaryTable rotary_table_for(int64_t positions, int64_t head_size, at::ScalarType type) {
  const at::Tensor angle = at::arange(positions, at::kDouble).unsqueeze(1) *
                           at::pow(10000.0, at::arange(0, head_size, 2, at::kDouble) / -static_cast<double>(head_size));
  return {angle.cos().to(type), angle.sin().to(type)};
}

TEST(Rotary, MatchesTheFormula) {
  at::manual_seed(3);
  const int64_t B = 2, T = 3, H = 2, K = 6, first = 4;
  const auto reference = [&](const std::vector<Values>& in) {
    Values y(in[0].size());
    for (int64_t i = 0; i < B * T * H; ++i) {
      const int64_t position = first + i / H % T;
      for (int64_t j = 0; j < K / 2; ++j) {
        const double angle = position * std::pow(10000.0, -2.0 * j / K);
        const double a = in[0][i * K + j], b = in[0][i * K + j + K / 2];
        y[i * K + j] = a * std::cos(angle) - b * std::sin(angle);
        y[i * K + j + K / 2] = b * std::cos(angle) + a * std::sin(angle);
      }
    }
    return y;
  };
  const auto operation = [&](const std::vector<at::Tensor>& in) {
    const at::ScalarType type = in[0].scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    return rotary(in[0], rotary_table_for(8, K, type), first);
  };
  check(operation, reference, {random({B, T, H, K})});
}

TEST(Rotary, RefusesPositionsBeyondTheTable) {
  EXPECT_THROW(rotary(random({1, 3, 1, 4}), rotary_table_for(4, 4, at::kDouble), 2), Error);
  EXPECT_NO_THROW(rotary(random({1, 3, 1, 4}), rotary_table_for(5, 4, at::kDouble), 2));
}

// ---------------------------------------------------------------------------------------------- SwiGLU

TEST(Swiglu, MatchesTheFormula) {
  at::manual_seed(4);
  const auto reference = [](const std::vector<Values>& in) {
    Values y(in[0].size());
    for (size_t i = 0; i < y.size(); ++i) y[i] = in[0][i] / (1 + std::exp(-in[0][i])) * in[1][i];
    return y;
  };
  check([](const auto& in) { return swiglu(in[0], in[1]); }, reference, {random({3, 5}) * 4, random({3, 5})});
}

// ---------------------------------------------------------------------------------------------- attention

struct AttentionCase {
  const char* name;
  int64_t T, S, H, G;
  bool causal;
  std::vector<std::vector<int>> keys;  // one row a sequence, 1 = a real key; empty: no mask
};

bool sees(const AttentionCase& c, int64_t b, int64_t t, int64_t s) {
  return (c.keys.empty() || c.keys[b][s]) && (!c.causal || s <= c.S - c.T + t);
}

Values attention_reference(const AttentionCase& c, int64_t K, const std::vector<Values>& in) {
  const int64_t B = 2;
  const Values &q = in[0], &k = in[1], &v = in[2];
  Values out(q.size(), 0.0);
  for (int64_t b = 0; b < B; ++b) {
    for (int64_t t = 0; t < c.T; ++t) {
      for (int64_t h = 0; h < c.H; ++h) {
        const int64_t g = h / (c.H / c.G), row = ((b * c.T + t) * c.H + h) * K;
        const auto key = [&](int64_t s) { return ((b * c.S + s) * c.G + g) * K; };
        double sum = 0;
        for (int64_t s = 0; s < c.S; ++s) {
          if (!sees(c, b, t, s)) continue;
          double score = 0;
          for (int64_t i = 0; i < K; ++i) score += q[row + i] * k[key(s) + i];
          const double weight = std::exp(score / std::sqrt(static_cast<double>(K)));
          sum += weight;
          for (int64_t i = 0; i < K; ++i) out[row + i] += weight * v[key(s) + i];
        }
        for (int64_t i = 0; i < K && sum > 0; ++i) out[row + i] /= sum;
      }
    }
  }
  return out;
}

AttentionMask mask_of(const AttentionCase& c) {
  AttentionMask mask{c.causal, {}};
  if (c.keys.empty()) return mask;
  mask.keys_BS = at::empty({2, c.S}, at::kBool);
  for (int64_t b = 0; b < 2; ++b) {
    for (int64_t s = 0; s < c.S; ++s) mask.keys_BS[b][s] = c.keys[b][s] != 0;
  }
  return mask;
}

class Attention : public testing::TestWithParam<AttentionCase> {};

TEST_P(Attention, MatchesTheFormula) {
  at::manual_seed(5);
  const AttentionCase& c = GetParam();
  constexpr int64_t K = 4;
  check([&](const auto& in) { return attention(in[0], in[1], in[2], mask_of(c)); },
        [&](const auto& in) { return attention_reference(c, K, in); },
        {random({2, c.T, c.H, K}), random({2, c.S, c.G, K}), random({2, c.S, c.G, K})});
}

INSTANTIATE_TEST_SUITE_P(
    Masks, Attention,
    testing::Values(AttentionCase{"Full", 3, 5, 2, 2, false, {}}, AttentionCase{"FullGrouped", 3, 5, 6, 2, false, {}},
                    AttentionCase{"Causal", 4, 4, 2, 2, true, {}}, AttentionCase{"CausalGrouped", 4, 4, 4, 1, true, {}},
                    AttentionCase{"CausalAppended", 3, 5, 4, 2, true, {}},
                    AttentionCase{"OneQuery", 1, 5, 4, 2, true, {}},
                    AttentionCase{"Padded", 3, 5, 4, 2, false, {{1, 1, 1, 0, 0}, {1, 1, 1, 1, 1}}},
                    AttentionCase{"Holes", 3, 5, 2, 1, false, {{0, 1, 0, 1, 1}, {1, 0, 0, 0, 1}}},
                    AttentionCase{"NoKeyAtAll", 3, 5, 4, 2, false, {{0, 0, 0, 0, 0}, {1, 1, 0, 1, 0}}},
                    AttentionCase{"CausalPadded", 4, 4, 4, 2, true, {{1, 1, 1, 0}, {1, 1, 1, 1}}},
                    AttentionCase{"CausalLateStart", 4, 4, 2, 2, true, {{0, 0, 1, 1}, {0, 0, 0, 0}}},
                    AttentionCase{"CausalAppendedPadded", 2, 4, 2, 2, true, {{0, 1, 1, 1}, {1, 0, 0, 1}}}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(AttentionMasks, RowWithoutKeysGivesExactZerosAndFiniteGradients) {
  at::manual_seed(6);
  const AttentionCase c{"", 3, 5, 4, 2, false, {{0, 0, 0, 0, 0}, {1, 1, 1, 1, 1}}};
  for (at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    std::vector<at::Tensor> in;
    for (int64_t heads : {c.H, c.G, c.G}) {
      const int64_t positions = heads == c.H ? c.T : c.S;
      in.push_back(at::randn({2, positions, heads, 8}, type).requires_grad_(true));
    }
    const at::Tensor out = attention(in[0], in[1], in[2], mask_of(c));
    EXPECT_EQ(out[0].abs().max().item<float>(), 0.f);
    EXPECT_GT(out[1].abs().max().item<float>(), 0.f);
    for (const at::Tensor& g : torch::autograd::grad({out.sum()}, in)) {
      EXPECT_TRUE(g.isfinite().all().item<bool>());
      EXPECT_EQ(g[0].abs().max().item<float>(), 0.f);
    }
  }
}

TEST(AttentionMasks, PackedSequencesSeeThemselvesAlone) {
  at::manual_seed(8);
  const PackedSequences packed = pack_sequences({3, 3, 1, 7, 3}, at::kCPU);
  const at::Tensor q = random({1, 17, 6, 4}), k = random({1, 17, 2, 4}), v = random({1, 17, 2, 4});
  const at::Tensor found = attention(q, k, v, {.packed = &packed});
  int64_t first = 0;
  for (const int64_t length : packed.lengths) {
    const auto own = [&](const at::Tensor& x) { return x.narrow(1, first, length); };
    const at::Tensor alone = attention(own(q), own(k), own(v), {});
    expect_close(values(own(found)), values(alone), 1e-12, "the sequence at " + std::to_string(first));
    first += length;
  }
  EXPECT_THROW(attention(q, k, v, {.causal = true, .packed = &packed}), Error);
  EXPECT_THROW(attention(q.narrow(1, 0, 16), k, v, {.packed = &packed}), Error);
  EXPECT_THROW(pack_sequences({3, 0}, at::kCPU), Error);
}

TEST(AttentionMasks, RefusesAMaskOfAnotherSize) {
  AttentionMask mask;
  mask.keys_BS = at::ones({1, 4}, at::kBool);
  EXPECT_THROW(attention(random({1, 2, 1, 4}), random({1, 5, 1, 4}), random({1, 5, 1, 4}), mask), Error);
}

// ---------------------------------------------------------------------------------------------- cross-entropy

struct EntropyReference {
  Values loss, grad_hidden;
};

EntropyReference cross_entropy_reference(const Values& hidden, const Values& head, const std::vector<int64_t>& labels) {
  const size_t N = labels.size(), D = hidden.size() / N, V = head.size() / D;
  EntropyReference out{Values(N, 0.0), Values(hidden.size(), 0.0)};
  for (size_t n = 0; n < N; ++n) {
    if (labels[n] < 0) continue;
    Values logits(V, 0.0);
    double top = -std::numeric_limits<double>::infinity(), sum = 0;
    for (size_t v = 0; v < V; ++v) {
      for (size_t d = 0; d < D; ++d) logits[v] += hidden[n * D + d] * head[v * D + d];
      top = std::max(top, logits[v]);
    }
    for (double x : logits) sum += std::exp(x - top);
    out.loss[n] = top + std::log(sum) - logits[labels[n]];
    for (size_t v = 0; v < V; ++v) {
      const double g = std::exp(logits[v] - top) / sum - (static_cast<int64_t>(v) == labels[n] ? 1 : 0);
      for (size_t d = 0; d < D; ++d) out.grad_hidden[n * D + d] += g * head[v * D + d];
    }
  }
  return out;
}

// 1100 rows make more than one block of logits.
TEST(LinearCrossEntropy, MatchesTheFormulaAcrossBlocks) {
  for (int64_t rows : {1, 9, 1100}) {
    at::manual_seed(rows);
    const at::Tensor hidden = random({rows, 6}), head = random({13, 6});
    std::vector<int64_t> labels(rows);
    for (int64_t i = 0; i < rows; ++i) labels[i] = i % 5 == 4 ? -100 : (i * 7) % 13;
    const EntropyReference expected = cross_entropy_reference(values(hidden), values(head), labels);
    double total = 0;
    for (double x : expected.loss) total += x;
    for (at::ScalarType type : {at::kDouble, at::kFloat, at::kBFloat16}) {
      const double tolerance = type == at::kDouble ? 1e-12 : type == at::kFloat ? 2e-5 : 4e-2;
      const at::Tensor x = hidden.to(type).clone().requires_grad_(true), ids = at::tensor(labels, at::kLong);
      const at::Tensor sum = linear_cross_entropy_sum(x, head.to(type), ids);
      EXPECT_EQ(sum.scalar_type(), type == at::kDouble ? at::kDouble : at::kFloat);
      EXPECT_NEAR(sum.item<double>(), total, tolerance * std::abs(total));
      const at::Tensor each = linear_cross_entropy(x.detach(), head.to(type), ids);
      EXPECT_EQ(each.scalar_type(), sum.scalar_type());
      expect_close(values(each), expected.loss, tolerance, "losses");
      // An incoming gradient of 0.5 must scale the gradient computed ahead of time.
      const at::Tensor grad = torch::autograd::grad({sum * 0.5}, {x})[0];
      expect_close(values(grad * 2), expected.grad_hidden, tolerance, "gradient of the hidden states");
    }
  }
}

TEST(LinearCrossEntropy, WeightsMultiplyEachPosition) {
  for (int64_t rows : {1, 7, 1100}) {
    at::manual_seed(rows);
    const at::Tensor hidden = random({rows, 6}), head = random({13, 6});
    std::vector<int64_t> labels;
    std::vector<float> weights;
    for (int64_t n = 0; n < rows; ++n) {
      labels.push_back((5 * n) % 14 - 1);
      weights.push_back(static_cast<float>(n % 4) * 0.75f);  // 0 among them
    }
    EntropyReference expected = cross_entropy_reference(values(hidden), values(head), labels);
    double total = 0;
    for (size_t n = 0; n < labels.size(); ++n) {
      total += weights[n] * expected.loss[n];
      for (size_t d = 0; d < 6; ++d) expected.grad_hidden[n * 6 + d] *= weights[n];
    }
    const at::Tensor ids = at::tensor(labels, at::kLong), weight = at::tensor(weights, at::kFloat);
    for (at::ScalarType type : {at::kDouble, at::kFloat, at::kBFloat16}) {
      const double tolerance = type == at::kDouble ? 1e-12 : type == at::kFloat ? 2e-5 : 4e-2;
      const at::Tensor x = hidden.to(type).clone().requires_grad_(true);
      const at::Tensor sum = linear_cross_entropy_sum(x, head.to(type), ids, weight);
      EXPECT_NEAR(sum.item<double>(), total, tolerance * std::abs(total));
      const at::Tensor grad = torch::autograd::grad({sum * 0.5}, {x})[0];
      EXPECT_EQ(grad.scalar_type(), type);
      expect_close(values(grad * 2), expected.grad_hidden, tolerance, "gradient of the hidden states");
    }
  }
}

// 1 / 3 rounded to bfloat16 is 0.2 % off: most elements would round to another value.
TEST(LinearCrossEntropy, AFactorIsNotRoundedToTheGradientsType) {
  at::manual_seed(4);
  const at::Tensor head = random({19, 6}).to(at::kBFloat16), labels = at::arange(40).remainder(19);
  const at::Tensor x = random({40, 6}).to(at::kBFloat16).requires_grad_(true);
  const auto gradient = [&](double factor) {
    return torch::autograd::grad({linear_cross_entropy_sum(x, head, labels) * factor}, {x})[0];
  };
  const at::Tensor right = (gradient(1).to(at::kFloat) * (1.0f / 3)).to(at::kBFloat16);
  EXPECT_TRUE(at::equal(gradient(1.0 / 3), right));
}

TEST(LinearCrossEntropy, GradientAgreesWithDifferences) {
  at::manual_seed(8);
  const std::vector<int64_t> labels{3, -1, 0, 10};
  const at::Tensor head = random({11, 5}), ids = at::tensor(labels, at::kLong), hidden = random({4, 5});
  const Values weights = values(head);
  const auto reference = [&](const std::vector<Values>& in) {
    double total = 0;
    for (double x : cross_entropy_reference(in[0], weights, labels).loss) total += x;
    return Values{total};
  };
  const at::Tensor x = hidden.clone().requires_grad_(true);
  const at::Tensor grad = torch::autograd::grad({linear_cross_entropy_sum(x, head, ids)}, {x})[0];
  expect_close(values(grad), numeric_gradient(reference, {values(hidden)}, 0, {1.0}), 1e-7, "gradient");
}

TEST(LinearCrossEntropy, RefusesWhatItCannotDo) {
  const at::Tensor hidden = random({3, 4}), head = random({5, 4}), labels = at::zeros({3}, at::kLong);
  EXPECT_THROW(linear_cross_entropy_sum(hidden, head, labels.narrow(0, 0, 2)), Error);
  EXPECT_THROW(linear_cross_entropy_sum(hidden.narrow(0, 0, 0), head, labels.narrow(0, 0, 0)), Error);
  EXPECT_THROW(linear_cross_entropy_sum(hidden, head.clone().requires_grad_(true), labels), Error);
  EXPECT_THROW(linear_cross_entropy_sum(hidden, head, labels, at::ones({2})), Error);
  EXPECT_THROW(linear_cross_entropy_sum(hidden, head, labels, at::ones({3}, at::kDouble)), Error);
}

}  // namespace
}  // namespace cepe
