// Where a decoding step's products run, and how its kernels are started: the one wall around what is a device's own
// affair. On a CUDA device it owns semaphores, chains of GEMVs and their workspace, the recorded graph, and the turn
// that chains of several threads take. On a CPU each product runs when it is asked for, and run() calls the work.
//
//   StepExecutor executor(device, {.chains = ..., .skinny = ..., .graph = true}, [&] {
//     const at::Tensor h = executor.gemv(attended, o, {.residual = before});
//     const at::Tensor q = executor.gemv(h, cross_q, {.norm = norm, .eps = eps});
//     executor.launch();   // from here on what is not a product of this executor may read h and q
//     ...
//   });
//   executor.run();
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <functional>
#include <memory>

#include "ops/gemv/gemv_types.h"

namespace cepe {

class CapturedWork;
class GemvChain;

struct StepExecutorOptions {
  bool chains = false;  // products that follow each other are one kernel (chain/gemv_chain.h): on no shared device
  bool skinny = false;  // products of more rows than a GEMV's have semaphores, so that the skinny GEMM serves (gemv.h)
  bool graph = false;   // all runs but the first are one graph (captured_work.h)
};

// Not thread-safe. No gradients.
class StepExecutor {
 public:
  // work: as CapturedWork takes it; it calls the functions below.
  StepExecutor(const c10::Device& device, const StepExecutorOptions& options, std::function<void()> work);
  ~StepExecutor();
  StepExecutor(const StepExecutor&) = delete;

  // The work, in order with the device's current stream. Waits for the turn of other threads' chains.
  void run();

  // gemv() and batched_gemv() of gemv.h, with semaphores where they serve. What is returned may be x or residual of the
  // next such call at once; anything else may read it after launch().
  at::Tensor gemv(const at::Tensor& x, const Matrix& weight_OI, const GemvOptions& options = {});
  at::Tensor batched_gemv(const at::Tensor& x_BHI, const at::Tensor& matrices, bool transposed);
  void launch();

 private:
  c10::Device device_;
  std::unique_ptr<GemvChain> products_;
  std::unique_ptr<CapturedWork> work_;
};

}  // namespace cepe
