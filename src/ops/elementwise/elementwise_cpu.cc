#include "ops/elementwise/elementwise_cpu.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "ops/operand.h"

namespace cepe {
namespace {

// Elements that are worth a thread's start.
constexpr int64_t kGrain = 32768;

int64_t grain(int64_t elements_a_row) { return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, elements_a_row)); }

template <typename T>
struct NormRow {
  const T *x, *addend, *weight;  // addend may be null: then x itself is normalised, and sum is null too
  T *sum, *out;
};

template <typename T>
void norm_row(const NormRow<T>& row, int64_t width, float eps) {
  const T* x = row.x;
  float squares = 0;
  if (row.addend) {
    for (int64_t i = 0; i < width; ++i) {
      row.sum[i] = static_cast<T>(static_cast<float>(x[i]) + static_cast<float>(row.addend[i]));
    }
    x = row.sum;
  }
  for (int64_t i = 0; i < width; ++i) squares += static_cast<float>(x[i]) * static_cast<float>(x[i]);
  const float scale = 1.0f / std::sqrt(squares / static_cast<float>(width) + eps);
  for (int64_t i = 0; i < width; ++i) {
    row.out[i] = static_cast<T>(static_cast<float>(x[i]) * scale * static_cast<float>(row.weight[i]));
  }
}

struct NormTensors {
  const at::Tensor &x, &addend, &weight;  // addend may be undefined
  at::Tensor sum, out;                    // sum likewise
};

template <typename T>
void norm(const NormTensors& tensors, double eps) {
  const int64_t width = tensors.x.size(-1), rows = tensors.x.numel() / std::max<int64_t>(1, width);
  const T* const x = tensors.x.const_data_ptr<T>();
  const T* const weight = tensors.weight.const_data_ptr<T>();
  const T* const addend = tensors.addend.defined() ? tensors.addend.const_data_ptr<T>() : nullptr;
  T* const sum = addend ? tensors.sum.mutable_data_ptr<T>() : nullptr;
  T* const out = tensors.out.mutable_data_ptr<T>();
  at::parallel_for(0, rows, grain(width), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t at = row * width;
      norm_row<T>({x + at, addend ? addend + at : nullptr, weight, sum ? sum + at : nullptr, out + at}, width,
                  static_cast<float>(eps));
    }
  });
}

void norm(const NormTensors& tensors, double eps) {
  tensors.x.scalar_type() == at::kFloat ? norm<float>(tensors, eps) : norm<at::BFloat16>(tensors, eps);
}

template <typename T>
void rotate(const at::Tensor& x_BTHK, const RotaryTable& table, int64_t first, at::Tensor& out) {
  const int64_t T_ = x_BTHK.size(1), H = x_BTHK.size(2), K = x_BTHK.size(3), half = K / 2;
  const T* const x = x_BTHK.const_data_ptr<T>();
  const float *const cos = table.cos.const_data_ptr<float>(), *const sin = table.sin.const_data_ptr<float>();
  T* const to = out.mutable_data_ptr<T>();
  at::parallel_for(0, x_BTHK.size(0) * T_, grain(H * K), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float* const c = cos + (first + row % T_) * half;
      const float* const s = sin + (first + row % T_) * half;
      for (int64_t h = 0; h < H; ++h) {
        const T* const a = x + (row * H + h) * K;
        T* const y = to + (row * H + h) * K;
        for (int64_t i = 0; i < half; ++i) {
          const float left = static_cast<float>(a[i]), right = static_cast<float>(a[half + i]);
          y[i] = static_cast<T>(left * c[i] - right * s[i]);
          y[half + i] = static_cast<T>(right * c[i] + left * s[i]);
        }
      }
    }
  });
}

}  // namespace

bool fused_cpu_applies(const at::Tensor& x) {
  return kernel_operand(x, at::kCPU, at::kFloat) || kernel_operand(x, at::kCPU, at::kBFloat16);
}

NormedSum fused_cpu_add_rms_norm(const at::Tensor& x, const at::Tensor& y, const at::Tensor& weight, double eps) {
  const NormedSum out{at::empty_like(x), at::empty_like(x)};
  norm({x, y, weight, out.sum, out.normed}, eps);
  return out;
}

at::Tensor fused_cpu_rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  const at::Tensor out = at::empty_like(x);
  norm({x, at::Tensor(), weight, {}, out}, eps);
  return out;
}

at::Tensor fused_cpu_rotary(const at::Tensor& x_BTHK, const RotaryTable& table, int64_t first) {
  at::Tensor out = at::empty_like(x_BTHK);
  x_BTHK.scalar_type() == at::kFloat ? rotate<float>(x_BTHK, table, first, out)
                                     : rotate<at::BFloat16>(x_BTHK, table, first, out);
  return out;
}

}  // namespace cepe
