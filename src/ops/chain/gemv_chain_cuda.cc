#include <ATen/cuda/CUDAEvent.h>

#include <ATen/cuda/CUDAGraphsUtils.cuh>
#include <algorithm>
#include <initializer_list>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "base/error.h"
#include "ops/chain/gemv_chain.h"
#include "ops/chain/gemv_chain_kernel.h"
#include "ops/cuda/launch.h"
#include "ops/dispatch.h"

namespace cepe {
namespace {

using gemv_chain_kernel::Args;
using gemv_chain_kernel::Product;

// What is read value by value, or is not there.
bool as_values(const at::Tensor& t) {
  return !t.defined() || (t.is_cuda() && t.scalar_type() == at::kBFloat16 && t.is_contiguous());
}

const void* pointer(const at::Tensor& t) { return t.defined() ? t.const_data_ptr() : nullptr; }

}  // namespace

struct GemvChain::Pending {
  Args args;
  c10::Device device = c10::kCPU;
  std::vector<at::Tensor> kept;
  at::Tensor workspace;

  // Whether the kernel took it: after what was added before, or first of a new chain.
  bool add(const Product& product, int64_t rows, const at::Tensor& out, std::initializer_list<at::Tensor> reads) {
    const bool full = args.count == gemv_chain_kernel::kMostProducts;
    if (args.count > 0 && (full || args.rows != rows || device != out.device())) run();
    for (const bool alone : {false, true}) {
      if (alone) run();
      Args more = args;
      more.products[more.count++] = product;
      more.rows = rows;
      if (!gemv_chain_kernel::fits(more)) continue;
      args = more;
      device = out.device();
      kept.insert(kept.end(), reads);
      kept.push_back(out);
      return true;
    }
    return false;
  }

  void run() {
    if (args.count == 0) return;
    const c10::cuda::CUDAGuard guard(device);
    const int64_t bytes = gemv_chain_kernel::workspace_bytes(args);
    if (!workspace.defined() || workspace.device() != device || workspace.numel() < bytes) {
      require(at::cuda::currentStreamCaptureStatus() == at::cuda::CaptureStatus::None,
              "GEMV chain: a CUDA graph is recorded before the same products have run once");
      workspace = at::zeros({bytes}, at::TensorOptions().device(device).dtype(at::kByte));
      workspace.narrow(0, 0, 4).view(at::kInt).fill_(1);
    }
    Args started = std::exchange(args, {});  // whatever happens: what failed is not tried again with what comes next
    const std::vector<at::Tensor> read = std::exchange(kept, {});
    started.workspace = workspace.mutable_data_ptr();
    gemv_chain_kernel::run(started, at::cuda::getCurrentCUDAStream(device.index()).stream());
  }

  void discard() {
    args = {};
    kept.clear();
  }
};

GemvChain::GemvChain(bool joins, bool tiles) : pending_(joins ? std::make_unique<Pending>() : nullptr), tiles_(tiles) {}

at::Tensor GemvChain::product(const at::Tensor& x, const at::Tensor& weight_OI, const GemvOptions& options) {
  const at::Tensor &norm = options.norm, &bias = options.bias, &residual = options.residual;
  require(x.size(-1) == weight_OI.size(1), "GEMV chain: rows of {} for a matrix with {} columns", x.size(-1),
          weight_OI.size(1));
  const bool values = (!norm.defined() || cuda::operand(norm)) && as_values(bias) && as_values(residual);
  if (pending_ && cuda::operand(x) && cuda::operand(weight_OI) && values) {
    const int64_t I = x.size(-1), O = weight_OI.size(0), rows = x.numel() / std::max<int64_t>(1, I);
    std::vector<int64_t> sizes = x.sizes().vec();
    sizes.back() = options.gated ? O / 2 : O;
    const at::Tensor out = at::empty(sizes, x.options());
    Product product;
    product.x = pointer(x), product.weight = pointer(weight_OI), product.out = out.mutable_data_ptr();
    product.inputs = I, product.outputs = O;
    product.norm = pointer(norm), product.eps = static_cast<float>(options.eps), product.bias = pointer(bias);
    product.residual = pointer(residual), product.gated = options.gated;
    require(!residual.defined() || residual.numel() == out.numel(), "GEMV chain: {} values are added to {}",
            residual.numel(), out.numel());
    if (pending_->add(product, rows, out, {x, weight_OI, norm, bias, residual})) return out;
  }
  run();
  GemvOptions with = options;
  with.semaphores = semaphores(x.device(), x.numel() / std::max<int64_t>(1, x.size(-1)));
  return gemv(x, weight_OI, with);
}

at::Tensor GemvChain::semaphores(const c10::Device& device, int64_t rows) {
  if (!tiles_ || !device.is_cuda() || rows <= dispatch::kGemvRows || rows > dispatch::kSkinnyGemmRows) return {};
  if (!semaphores_.defined() || semaphores_.device() != device) {
    require(at::cuda::currentStreamCaptureStatus() == at::cuda::CaptureStatus::None,
            "GEMV chain: a CUDA graph is recorded before the same products have run once");
    semaphores_ = make_semaphores(device);
  }
  return semaphores_;
}

at::Tensor GemvChain::batched_gemv(const at::Tensor& x_BHI, const at::Tensor& matrices, bool transposed) {
  const int64_t B = x_BHI.size(0), H = x_BHI.size(1), G = matrices.size(0), O = matrices.size(transposed ? 2 : 1);
  require(H % G == 0 && x_BHI.size(2) == matrices.size(transposed ? 1 : 2),
          "GEMV chain: {} heads of {} for {} matrices of {} inputs", H, x_BHI.size(2), G,
          matrices.size(transposed ? 1 : 2));
  if (pending_ && cuda::operand(x_BHI) && cuda::operand(matrices)) {
    const at::Tensor out = at::empty({B, H, O}, x_BHI.options());
    Product product;
    product.x = pointer(x_BHI), product.weight = pointer(matrices), product.out = out.mutable_data_ptr();
    product.heads = G, product.group = H / G, product.inputs = x_BHI.size(2), product.outputs = O;
    product.transposed = transposed;
    if (pending_->add(product, B, out, {x_BHI, matrices})) return out;
  }
  run();
  return cepe::batched_gemv(x_BHI, matrices, transposed, semaphores(x_BHI.device(), B));
}

void GemvChain::run() {
  if (pending_) pending_->run();
}

void GemvChain::discard() {
  if (pending_) pending_->discard();
}

struct ChainTurn::Device {
  std::mutex taken;
  at::cuda::CUDAEvent last;  // the end of the turn before
  c10::DeviceIndex index = 0;
  bool any = false;
  cudaStream_t stream = nullptr;  // of that turn

  static Device& of(c10::DeviceIndex index) {
    static std::mutex adding;
    static auto* const devices = new std::map<c10::DeviceIndex, Device>;  // events outlive no CUDA context at exit
    const std::lock_guard lock(adding);
    Device& device = (*devices)[index];
    device.index = index;
    return device;
  }
};

ChainTurn::ChainTurn(const c10::Device& device) {
  if (!device.is_cuda()) return;
  device_ = &Device::of(device.index());
  device_->taken.lock();
  const at::cuda::CUDAStream current = at::cuda::getCurrentCUDAStream(device_->index);
  if (device_->any && device_->stream != current.stream()) device_->last.block(current);
}

ChainTurn::~ChainTurn() {
  if (!device_) return;
  const at::cuda::CUDAStream current = at::cuda::getCurrentCUDAStream(device_->index);
  try {
    device_->last.record(current);
    device_->any = true;
    device_->stream = current.stream();
  } catch (...) {  // the device is lost; whoever comes next finds out
  }
  device_->taken.unlock();
}

at::Tensor GemvChain::product(const at::Tensor& x, const QuantisedWeight& weight_OI, const GemvOptions& options) {
  run();
  return gemv(x, weight_OI, options);
}

GemvChain::~GemvChain() = default;

}  // namespace cepe
