#include "ops/elementwise/elementwise_cuda.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "base/error.h"
#include "ops/cuda/launch.h"
#include "ops/elementwise/elementwise_kernel.h"

namespace cepe {

namespace {

using cuda::dense;
using cuda::Launch;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

void turn_into(const at::Tensor& x, const at::Tensor& y, const RotaryTurn& turn) {
  const Launch launch(x);
  fused::RotaryArgs args{};
  args.x = x.const_data_ptr();
  args.y = y.mutable_data_ptr();
  args.cos = turn.table.cos.const_data_ptr<float>();
  args.sin = turn.table.sin.const_data_ptr<float>();
  args.batch = x.size(0), args.tokens = x.size(1), args.heads = x.size(2), args.head_size = x.size(3);
  args.first = turn.first;
  args.x_stride_batch = x.stride(0), args.x_stride_token = x.stride(1), args.x_stride_head = x.stride(2);
  args.y_stride_batch = y.stride(0), args.y_stride_token = y.stride(1), args.y_stride_head = y.stride(2);
  args.inverse = turn.back;
  fused::rotary(args, launch.stream());
}

at::Tensor turn(const at::Tensor& x_BTHK, const RotaryTable& table, int64_t first, bool inverse) {
  const at::Tensor x = x_BTHK.stride(3) == 1 ? x_BTHK : x_BTHK.contiguous();
  const at::Tensor y = at::empty(x.sizes(), x.options());
  turn_into(x, y, {table, first, inverse});
  return y;
}

class Rotary : public torch::autograd::Function<Rotary> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x_BTHK, const at::Tensor& cos,
                            const at::Tensor& sin, int64_t first) {
    at::AutoDispatchBelowAutograd guard;
    ctx->save_for_backward({cos, sin});
    ctx->saved_data["first"] = first;
    return turn(x_BTHK, {cos, sin}, first, false);
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    return {turn(grads[0], {saved[0], saved[1]}, ctx->saved_data["first"].toInt(), true), {}, {}, {}};
  }
};

class Swiglu : public torch::autograd::Function<Swiglu> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& gate_in, const at::Tensor& up_in) {
    at::AutoDispatchBelowAutograd guard;
    const at::Tensor gate = gate_in.contiguous(), up = up_in.contiguous(), out = at::empty_like(gate);
    ctx->save_for_backward({gate, up});
    const Launch launch(gate);
    fused::swiglu({gate.const_data_ptr(), up.const_data_ptr(), out.mutable_data_ptr(), gate.numel()}, launch.stream());
    return out;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &gate = saved[0], &up = saved[1], grad_out = grads[0].contiguous();
    const at::Tensor grad_gate = at::empty_like(gate), grad_up = at::empty_like(up);
    const Launch launch(gate);
    fused::swiglu_backward({grad_out.const_data_ptr(), gate.const_data_ptr(), up.const_data_ptr(),
                            grad_gate.mutable_data_ptr(), grad_up.mutable_data_ptr(), gate.numel()},
                           launch.stream());
    return {grad_gate, grad_up};
  }
};

// What one norm leaves for its backward pass.
struct Normed {
  at::Tensor s, y, rstd;
};

Normed norm_forward(const at::Tensor& x_in, const at::Tensor& addend_in, const at::Tensor& weight, double eps) {
  const bool adds = addend_in.defined();
  const at::Tensor x = dense(x_in), addend = adds ? dense(addend_in) : addend_in;
  const int64_t width = x.size(-1), rows = x.numel() / width;
  const Normed out{adds ? at::empty_like(x) : x, at::empty_like(x), at::empty({rows}, x.options().dtype(at::kFloat))};
  const Launch launch(x);
  fused::RmsNormArgs args{};
  args.x = x.const_data_ptr();
  args.addend = adds ? addend.const_data_ptr() : nullptr;
  args.weight = weight.const_data_ptr();
  args.sum = adds ? out.s.mutable_data_ptr() : nullptr;
  args.y = out.y.mutable_data_ptr();
  args.rstd = out.rstd.mutable_data_ptr<float>();
  args.rows = rows, args.width = width;
  args.eps = static_cast<float>(eps);
  fused::rms_norm(args, launch.stream());
  return out;
}

struct NormGradients {
  at::Tensor s, weight;
};

// grad_sum may be undefined.
NormGradients norm_backward(const variable_list& saved, const at::Tensor& grad_y_in, const at::Tensor& grad_sum_in,
                            bool weight_gradient) {
  const at::Tensor &s = saved[0], &weight = saved[1], &rstd = saved[2];
  const at::Tensor grad_y = dense(grad_y_in), grad_sum = grad_sum_in.defined() ? dense(grad_sum_in) : grad_sum_in;
  const int64_t width = s.size(-1), rows = s.numel() / width;
  const Launch launch(s);
  NormGradients out{at::empty_like(s), {}};
  at::Tensor partial;
  if (weight_gradient) {
    out.weight = at::empty_like(weight);
    partial = at::empty({fused::norm_partial_rows(rows), width}, rstd.options());
  }
  fused::RmsNormBackwardArgs args{};
  args.grad_y = grad_y.const_data_ptr();
  args.grad_sum = grad_sum.defined() ? grad_sum.const_data_ptr() : nullptr;
  args.s = s.const_data_ptr();
  args.weight = weight.const_data_ptr();
  args.rstd = rstd.const_data_ptr<float>();
  args.grad_s = out.s.mutable_data_ptr();
  args.grad_weight = weight_gradient ? out.weight.mutable_data_ptr() : nullptr;
  args.partial = weight_gradient ? partial.mutable_data_ptr<float>() : nullptr;
  args.rows = rows, args.width = width;
  fused::rms_norm_backward(args, launch.stream());
  return out;
}

class RmsNorm : public torch::autograd::Function<RmsNorm> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight_in, double eps) {
    at::AutoDispatchBelowAutograd guard;
    const at::Tensor weight = dense(weight_in);
    const Normed out = norm_forward(x, {}, weight, eps);
    ctx->save_for_backward({out.s, weight, out.rstd});
    ctx->saved_data["weight_gradient"] = weight_in.requires_grad();
    return out.y;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const bool weight_gradient = ctx->saved_data["weight_gradient"].toBool();
    const NormGradients out = norm_backward(ctx->get_saved_variables(), grads[0], {}, weight_gradient);
    return {out.s, out.weight, {}};
  }
};

class AddRmsNorm : public torch::autograd::Function<AddRmsNorm> {
 public:
  static variable_list forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& y,
                               const at::Tensor& weight_in, double eps) {
    at::AutoDispatchBelowAutograd guard;
    ctx->set_materialize_grads(false);
    const at::Tensor weight = dense(weight_in);
    const Normed out = norm_forward(x, y, weight, eps);
    ctx->save_for_backward({out.s, weight, out.rstd});
    ctx->saved_data["weight_gradient"] = weight_in.requires_grad();
    return {out.s, out.y};
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const at::Tensor &grad_sum = grads[0], &grad_normed = grads[1];
    if (!grad_normed.defined()) return {grad_sum, grad_sum, {}, {}};
    const bool weight_gradient = ctx->saved_data["weight_gradient"].toBool();
    const NormGradients out = norm_backward(ctx->get_saved_variables(), grad_normed, grad_sum, weight_gradient);
    return {out.s, out.s, out.weight, {}};
  }
};

}  // namespace

bool fused_applies(const at::Tensor& x) { return x.is_cuda() && x.scalar_type() == at::kBFloat16; }

at::Tensor fused_rotary(const at::Tensor& x_BTHK, const RotaryTable& table, int64_t first) {
  const at::Tensor cos = table.cos.to(x_BTHK.device(), at::kFloat).contiguous();
  const at::Tensor sin = table.sin.to(x_BTHK.device(), at::kFloat).contiguous();
  require(cos.size(1) * 2 == x_BTHK.size(3), "rotary: heads of {} values and a table for {}", x_BTHK.size(3),
          cos.size(1) * 2);
  return Rotary::apply(x_BTHK, cos, sin, first);
}

at::Tensor fused_swiglu(const at::Tensor& gate, const at::Tensor& up) {
  require(fused_applies(up) && gate.sizes() == up.sizes(), "SwiGLU: gate and up differ in shape, type or device");
  return Swiglu::apply(gate, up);
}

void fused_turn(const at::Tensor& x_BTHK, const at::Tensor& y_BTHK, const RotaryTurn& turn) {
  const at::Tensor x = x_BTHK.stride(3) == 1 ? x_BTHK : x_BTHK.contiguous();
  require(x.sizes() == y_BTHK.sizes() && y_BTHK.stride(3) == 1 && turn.table.cos.scalar_type() == at::kFloat &&
              turn.table.cos.is_contiguous() && turn.table.sin.is_contiguous(),
          "rotary: the kernel takes a contiguous table in float32 and results of the same shape");
  turn_into(x, y_BTHK, turn);
}

at::Tensor fused_swiglu_halves(const at::Tensor& gate_up) {
  const int64_t rows = gate_up.size(0), width = gate_up.size(1) / 2;
  require(gate_up.is_contiguous(), "SwiGLU: the kernel takes contiguous rows");
  const at::Tensor out = at::empty({rows, width}, gate_up.options());
  const Launch launch(gate_up);
  fused::swiglu_halves({gate_up.const_data_ptr(), out.mutable_data_ptr(), rows, width}, launch.stream());
  return out;
}

at::Tensor fused_swiglu_halves_backward(const at::Tensor& grad_in, const at::Tensor& gate_up) {
  const at::Tensor grad = grad_in.contiguous(), out = at::empty_like(gate_up);
  require(gate_up.is_contiguous() && grad.numel() * 2 == gate_up.numel(),
          "SwiGLU: gradients of {} numbers for rows of {}", grad.numel(), gate_up.numel());
  const Launch launch(gate_up);
  fused::swiglu_halves_backward(
      {grad.const_data_ptr(), gate_up.const_data_ptr(), out.mutable_data_ptr(), gate_up.size(0), gate_up.size(1) / 2},
      launch.stream());
  return out;
}

at::Tensor fused_cross_entropy(at::Tensor& logits_NV, const at::Tensor& labels_N, bool gradient) {
  require(logits_NV.is_contiguous() && labels_N.scalar_type() == at::kLong && labels_N.device() == logits_NV.device(),
          "cross-entropy: the kernel takes contiguous logits, and int64 labels on the same device");
  const at::Tensor labels = labels_N.contiguous();
  const at::Tensor loss = at::empty(labels.sizes(), logits_NV.options().dtype(at::kFloat));
  const Launch launch(logits_NV);
  fused::cross_entropy({logits_NV.mutable_data_ptr(), labels.const_data_ptr<int64_t>(), loss.mutable_data_ptr<float>(),
                        logits_NV.size(0), logits_NV.size(1), gradient},
                       launch.stream());
  return loss;
}

bool fused_norm_applies(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& addend) {
  const bool adds = addend.defined();
  const bool gradient = wants_gradient(x) || wants_gradient(weight) || (adds && wants_gradient(addend));
  const int64_t width = x.size(-1);
  return fused_applies(x) && fused_applies(weight) && x.numel() > 0 && weight.numel() == width &&
         (gradient ? fused::norm_width_fits(width) : fused::norm_forward_width_fits(width)) &&
         (!adds || (fused_applies(addend) && addend.sizes() == x.sizes()));
}

at::Tensor fused_rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  return RmsNorm::apply(x, weight, eps);
}

NormedSum fused_add_rms_norm(const at::Tensor& x, const at::Tensor& y, const at::Tensor& weight, double eps) {
  const variable_list out = AddRmsNorm::apply(x, y, weight, eps);
  return {out[0], out[1]};
}

}  // namespace cepe
