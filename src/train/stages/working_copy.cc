#include "train/stages/working_copy.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <string>

namespace cepe {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// 16-byte pieces, as kernels read them: every view begins at a multiple.
constexpr int64_t kPiece = 16;

// Tensors of these shapes one after another in a new one.
variable_list views_of_one(at::TensorList like, at::ScalarType dtype) {
  const int64_t numbers = kPiece / static_cast<int64_t>(c10::elementSize(dtype));
  std::vector<int64_t> places;
  int64_t end = 0;
  for (const at::Tensor& tensor : like) {
    places.push_back(end);
    end += (tensor.numel() + numbers - 1) / numbers * numbers;
  }
  const at::Tensor all = at::empty({end}, like.front().options().dtype(dtype).requires_grad(false));
  variable_list views;
  for (size_t i = 0; i < like.size(); ++i)
    views.push_back(all.narrow(0, places[i], like[i].numel()).view(like[i].sizes()));
  return views;
}

class CastTogether : public torch::autograd::Function<CastTogether> {
 public:
  static variable_list forward(AutogradContext* ctx, at::TensorList tensors, at::ScalarType dtype) {
    at::AutoDispatchBelowAutograd guard;
    ctx->set_materialize_grads(false);
    ctx->saved_data["type"] = static_cast<int64_t>(tensors.front().scalar_type());
    variable_list views = views_of_one(tensors, dtype);
    at::_foreach_copy_(views, tensors);
    return views;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto type = static_cast<at::ScalarType>(ctx->saved_data["type"].toInt());
    variable_list given, out(grads.size() + 1);  // the last is the type's
    for (const at::Tensor& grad : grads) {
      if (grad.defined()) given.push_back(grad);
    }
    if (given.empty()) return out;
    const variable_list views = views_of_one(given, type);
    at::_foreach_copy_(views, given);
    size_t next = 0;
    for (size_t i = 0; i < grads.size(); ++i) {
      if (grads[i].defined()) out[i] = views[next++];
    }
    return out;
  }
};

// "encoder.layers.3." of what belongs to that layer; a name of its own of all else.
std::string group_of(const std::string& name) {
  const size_t layers = name.find("layers.");
  return layers == std::string::npos ? name : name.substr(0, name.find('.', layers + 7));
}

}  // namespace

std::vector<at::Tensor> cast_together(const std::vector<at::Tensor>& tensors, at::ScalarType dtype) {
  return CastTogether::apply(at::TensorList(tensors), dtype);
}

Cepe working_copy(const Cepe& model, at::ScalarType dtype) {
  Cepe out = model;
  std::vector<Parameter> parts = trainable_parameters(out);
  for (size_t first = 0, end = 0; first < parts.size(); first = end) {
    std::vector<at::Tensor> values;
    for (; end < parts.size() && group_of(parts[end].name) == group_of(parts[first].name); ++end)
      values.push_back(*parts[end].value);
    if (values.front().scalar_type() == dtype) continue;
    const std::vector<at::Tensor> together = cast_together(values, dtype);
    for (size_t i = 0; i < together.size(); ++i) *parts[first + i].value = together[i];
  }
  return cast(out, dtype);
}

}  // namespace cepe
