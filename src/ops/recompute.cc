#include "ops/recompute.h"

#include <ATen/ATen.h>
#include <ATen/core/ivalue.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <utility>

#include "ops/gemm/trained_products.h"

namespace cepe {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct PieceAndWeights : torch::CustomClassHolder {
  RecomputedPiece piece;
  variable_list weights;
  Fp8Weights* fp8 = nullptr;
};
using Shared = c10::intrusive_ptr<PieceAndWeights>;

// The piece on leaves of its own, recorded: its operations choose their kernels by who wants a gradient.
struct Recorded {
  variable_list inputs, outputs;
};
Recorded record(const PieceAndWeights& work, at::TensorList inputs) {
  const c10::AutoGradMode recording(true);
  const Fp8FrozenProducts fp8(work.fp8);
  Recorded out;
  for (const at::Tensor& input : inputs) out.inputs.push_back(input.detach().set_requires_grad(input.requires_grad()));
  out.outputs = work.piece(out.inputs);
  return out;
}

class Recomputed : public torch::autograd::Function<Recomputed> {
 public:
  // all: the inputs, then the weights.
  static variable_list forward(AutogradContext* ctx, at::TensorList all, const Shared& work) {
    ctx->set_materialize_grads(false);
    const at::TensorList inputs = all.slice(0, all.size() - work->weights.size());
    ctx->save_for_backward(inputs.vec());
    ctx->saved_data["work"] = c10::IValue::make_capsule(work);
    variable_list outputs = record(*work, inputs).outputs, constant;
    for (at::Tensor& output : outputs) {
      const bool flows = output.requires_grad();
      output = output.detach();
      if (!flows) constant.push_back(output);
    }
    ctx->mark_non_differentiable(constant);
    return outputs;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const c10::intrusive_ptr<torch::CustomClassHolder> held = ctx->saved_data["work"].toCapsule();
    const auto& work = static_cast<const PieceAndWeights&>(*held);
    const Recorded again = record(work, ctx->get_saved_variables());
    variable_list roots, root_grads, wanted;
    for (size_t i = 0; i < grads.size(); ++i) {
      if (!grads[i].defined()) continue;
      roots.push_back(again.outputs[i]);
      root_grads.push_back(std::move(grads[i]));
    }
    for (const at::Tensor& input : again.inputs) {
      if (input.requires_grad()) wanted.push_back(input);
    }
    wanted.insert(wanted.end(), work.weights.begin(), work.weights.end());
    variable_list out(again.inputs.size() + work.weights.size() + 1);  // the last is the work's
    if (roots.empty() || wanted.empty()) return out;
    const variable_list found = torch::autograd::grad(roots, wanted, root_grads, /*retain_graph=*/false,
                                                      /*create_graph=*/false, /*allow_unused=*/true);
    size_t next = 0;
    for (size_t i = 0; i + 1 < out.size(); ++i) {
      if (i >= again.inputs.size() || again.inputs[i].requires_grad()) out[i] = found[next++];
    }
    return out;
  }
};

}  // namespace

std::vector<at::Tensor> recomputed(const RecomputedPiece& piece, const std::vector<at::Tensor>& inputs,
                                   const std::vector<at::Tensor>& weights) {
  auto work = c10::make_intrusive<PieceAndWeights>();
  variable_list all;
  std::vector<size_t> places;  // of the defined ones
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].defined()) continue;
    places.push_back(i);
    all.push_back(inputs[i]);
  }
  work->piece = [piece, places, count = inputs.size()](const variable_list& defined) {
    variable_list given(count);
    for (size_t i = 0; i < places.size(); ++i) given[places[i]] = defined[i];
    return piece(given);
  };
  work->weights = weights;
  work->fp8 = Fp8FrozenProducts::current();
  all.insert(all.end(), weights.begin(), weights.end());
  return Recomputed::apply(at::TensorList(all), work);
}

}  // namespace cepe
