#include "ops/gemm/trained_products.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <utility>

#include "ops/dispatch.h"
#include "ops/elementwise/elementwise_cuda.h"
#include "ops/gemm/fp8.h"
#include "ops/operand.h"

namespace cepe {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

at::Tensor rows_of(const at::Tensor& x) { return x.reshape({-1, x.size(-1)}); }

std::vector<int64_t> with_width(const at::Tensor& x, int64_t width) {
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes.back() = width;
  return sizes;
}

thread_local Fp8Weights* fp8_weights = nullptr;

// x weight^T by rows, and what every product keeps of it as its first two saved tensors: the joined weight, and the
// rows where a part of the weight is trained.
struct Multiplied {
  at::Tensor result;
  variable_list kept;
};
Multiplied multiply(AutogradContext* ctx, const at::Tensor& x, const std::vector<at::Tensor>& parts) {
  const at::Tensor rows = rows_of(x);
  const at::Tensor weight = joined_rows(parts);
  const bool trained = std::any_of(parts.begin(), parts.end(), [](const at::Tensor& w) { return w.requires_grad(); });
  if (!fp8_weights || trained || !x.requires_grad() || !fp8_fits(weight.size(0), weight.size(1)))
    return {at::mm(rows, weight.t()), {weight, trained ? rows : at::Tensor()}};
  const Fp8Weights::Kept& kept = fp8_weights->of(parts);
  ctx->saved_data["fp8"] = kept.columns.values;
  ctx->saved_data["fp8_scales"] = kept.columns.scales;
  return {fp8_product(fp8_rows(rows), kept.rows), {weight, at::Tensor()}};
}

// Of the rows.
at::Tensor rows_gradient(const AutogradContext* ctx, const at::Tensor& grad_NO, const at::Tensor& weight) {
  const auto columns = ctx->saved_data.find("fp8");
  if (columns == ctx->saved_data.end()) return at::mm(grad_NO, weight);
  return fp8_product(fp8_rows(grad_NO), {columns->second.toTensor(), ctx->saved_data.at("fp8_scales").toTensor()});
}

// Gradients of x and of the parts, of which the first `of_parts` sizes are the rows; input 0 is x, the parts follow it.
variable_list product_gradients(AutogradContext* ctx, const variable_list& saved, const at::Tensor& grad_NO,
                                at::IntArrayRef x_sizes, at::IntArrayRef part_rows) {
  const at::Tensor &weight = saved[0], &rows = saved[1];
  variable_list out(1 + part_rows.size());
  if (ctx->needs_input_grad(0)) out[0] = rows_gradient(ctx, grad_NO, weight).view(x_sizes);
  if (!rows.defined()) return out;
  const at::Tensor all = at::mm(grad_NO.t(), rows);
  int64_t first = 0;
  for (size_t i = 0; i < part_rows.size(); ++i) {
    if (ctx->needs_input_grad(i + 1)) out[i + 1] = all.narrow(0, first, part_rows[i]);
    first += part_rows[i];
  }
  return out;
}

// ---------------------------------------------------------------------------------------------- one product

class Product : public Function<Product> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight) {
    at::AutoDispatchBelowAutograd guard;
    Multiplied product = multiply(ctx, x, {weight});
    ctx->save_for_backward(std::move(product.kept));
    return product.result.view(with_width(x, weight.size(0)));
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const std::vector<int64_t> x_sizes = with_width(grads[0], saved[0].size(1));
    return product_gradients(ctx, saved, rows_of(grads[0]), x_sizes, {saved[0].size(0)});
  }
};

// ---------------------------------------------------------------------------------------------- gate and up

at::Tensor swiglu_halves(const at::Tensor& gate_up) {
  if (fused_applies(gate_up)) return fused_swiglu_halves(gate_up);
  const int64_t F = gate_up.size(1) / 2;
  return at::silu(gate_up.narrow(1, 0, F)) * gate_up.narrow(1, F, F);
}

at::Tensor swiglu_halves_backward(const at::Tensor& grad, const at::Tensor& gate_up) {
  if (fused_applies(gate_up)) return fused_swiglu_halves_backward(grad, gate_up);
  const int64_t F = gate_up.size(1) / 2;
  const at::Tensor gate = gate_up.narrow(1, 0, F), up = gate_up.narrow(1, F, F);
  return at::cat({at::silu_backward(grad * up, gate), grad * at::silu(gate)}, 1);
}

class Swiglu : public Function<Swiglu> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& gate, const at::Tensor& up) {
    at::AutoDispatchBelowAutograd guard;
    Multiplied product = multiply(ctx, x, {gate, up});
    product.kept.push_back(product.result);
    ctx->save_for_backward(std::move(product.kept));
    return swiglu_halves(product.result).view(with_width(x, gate.size(0)));
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const std::vector<int64_t> x_sizes = with_width(grads[0], saved[0].size(1));
    const int64_t F = grads[0].size(-1);
    const at::Tensor grad = swiglu_halves_backward(rows_of(grads[0]), saved[2]);
    return product_gradients(ctx, saved, grad, x_sizes, {F, F});
  }
};

// ---------------------------------------------------------------------------------------------- queries, keys, values

void turn(const at::Tensor& x, const at::Tensor& y, const RotaryTurn& how) {
  if (fused_applies(x)) return fused_turn(x, y, how);
  const int64_t T = x.size(1), half = how.table.cos.size(1);
  const at::Tensor cos = how.table.cos.narrow(0, how.first, T).view({1, T, 1, half});
  const at::Tensor sin = how.table.sin.narrow(0, how.first, T).view({1, T, 1, half});
  const at::Tensor a = x.narrow(3, 0, half), b = x.narrow(3, half, half), s = how.back ? sin.neg() : sin;
  y.copy_(at::cat({a * cos - b * s, b * cos + a * s}, 3));
}

class Rotary : public Function<Rotary> {
 public:
  // weights: of queries, keys and values.
  static variable_list forward(AutogradContext* ctx, const at::Tensor& x, at::TensorList weights,
                               const RotaryTurn& how) {
    at::AutoDispatchBelowAutograd guard;
    const int64_t B = x.size(0), T = x.size(1), K = 2 * how.table.cos.size(1);
    const int64_t H = weights[0].size(0) / K, G = weights[1].size(0) / K;
    Multiplied product = multiply(ctx, x, weights.vec());
    const at::Tensor all = product.result.view({B, T, H + 2 * G, K}), turned = all.narrow(2, 0, H + G);
    turn(turned, turned, how);
    product.kept.insert(product.kept.end(), {how.table.cos, how.table.sin});
    ctx->save_for_backward(std::move(product.kept));
    ctx->saved_data["first"] = how.first;
    return {all.narrow(2, 0, H), all.narrow(2, H, G), all.narrow(2, H + G, G)};
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const int64_t B = grads[0].size(0), T = grads[0].size(1), H = grads[0].size(2), G = grads[1].size(2),
                  K = grads[0].size(3);
    const RotaryTable table{saved[2], saved[3]};
    const RotaryTurn back{table, ctx->saved_data["first"].toInt(), /*back=*/true};
    const at::Tensor all = at::empty({B, T, H + 2 * G, K}, grads[0].options());
    turn(grads[0], all.narrow(2, 0, H), back);
    turn(grads[1], all.narrow(2, H, G), back);
    all.narrow(2, H + G, G).copy_(grads[2]);
    variable_list out = product_gradients(ctx, saved, all.view({B * T, (H + 2 * G) * K}), {B, T, saved[0].size(1)},
                                          {H * K, G * K, G * K});
    out.emplace_back();  // of the turn
    return out;
  }
};

}  // namespace

namespace {

bool multiplies(const at::Tensor& x, std::initializer_list<at::Tensor> weights) {
  const auto fits = [&](const at::Tensor& w) {
    return fused_applies(w) && w.dim() == 2 && w.is_contiguous() && w.size(1) == x.size(-1) && w.device() == x.device();
  };
  return fused_applies(x) && x.dim() >= 2 && x.numel() > dispatch::kSkinnyGemmRows * x.size(-1) &&
         std::all_of(weights.begin(), weights.end(), fits);
}

}  // namespace

const Fp8Weights::Kept& Fp8Weights::of(const std::vector<at::Tensor>& matrices) {
  const at::Tensor& first = matrices.front();
  const std::lock_guard lock(mutex_);
  const std::pair<const void*, size_t> key{first.const_data_ptr(), matrices.size()};
  auto found = entries_.find(key);
  if (found == entries_.end()) {
    const at::Tensor weight = joined_rows(matrices);
    found = entries_.emplace(key, Entry{first, {fp8_rows(weight), fp8_rows(weight.t().contiguous())}}).first;
  }
  return found->second.kept;
}

Fp8FrozenProducts::Fp8FrozenProducts(Fp8Weights* weights) : before_(std::exchange(fp8_weights, weights)) {}
Fp8FrozenProducts::~Fp8FrozenProducts() { fp8_weights = before_; }
Fp8Weights* Fp8FrozenProducts::current() { return fp8_weights; }

bool trained_product_applies(const at::Tensor& x, std::initializer_list<at::Tensor> weights) {
  const bool wanted = wants_gradient(x) || std::any_of(weights.begin(), weights.end(), wants_gradient);
  return wanted && multiplies(x, weights);
}

bool trained_rotary_applies(const at::Tensor& x, const RotaryGemmWeights& weights, const RotaryTable& table) {
  const at::Tensor &q = weights.q, &k = weights.k, &v = weights.v;
  const auto fits = [&](const at::Tensor& t) {
    return t.scalar_type() == at::kFloat && t.is_contiguous() && t.device() == x.device();
  };
  if (!fits(table.cos) || !fits(table.sin) || !multiplies(x, {q, k, v})) return false;
  return trained_product_applies(x, {q, k, v}) || stand_together({q, k, v});
}

bool stand_together(const std::vector<at::Tensor>& matrices) {
  const at::Tensor& first = matrices.front();
  int64_t place = first.storage_offset();
  for (const at::Tensor& matrix : matrices) {
    if (!matrix.is_contiguous() || !matrix.is_alias_of(first) || matrix.storage_offset() != place) return false;
    place += matrix.numel();
  }
  return true;
}

at::Tensor joined_rows(const std::vector<at::Tensor>& matrices) {
  if (!stand_together(matrices)) return at::cat(matrices, 0);
  const at::Tensor& first = matrices.front();
  int64_t rows = 0;
  for (const at::Tensor& matrix : matrices) rows += matrix.size(0);
  return first.as_strided({rows, first.size(1)}, {first.size(1), 1});
}

at::Tensor trained_product(const at::Tensor& x, const at::Tensor& weight_OD) { return Product::apply(x, weight_OD); }

at::Tensor trained_swiglu(const at::Tensor& x, const at::Tensor& gate_FD, const at::Tensor& up_FD) {
  return Swiglu::apply(x, gate_FD, up_FD);
}

RotaryGemm trained_rotary(const at::Tensor& x_BTD, const RotaryGemmWeights& weights, const RotaryTable& table,
                          int64_t first) {
  const std::vector<at::Tensor> of_three = {weights.q, weights.k, weights.v};
  const variable_list out = Rotary::apply(x_BTD, at::TensorList(of_three), RotaryTurn{table, first, false});
  return {out[0], out[1], out[2]};
}

}  // namespace cepe
