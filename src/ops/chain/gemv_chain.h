// GEMVs that depend on each other, as a decoding step has them, as one persistent kernel.
//
// One CTA stays on every multiprocessor. Weights stream through pipeline stages in shared memory across the boundaries
// between products; outputs travel between CTAs as 8-byte words whose flag travels with the data (the LL protocol of
// NCCL; docs/kernels/gemv_chain.md). A chain is either
//   o of self-attention, q of cross-attention, projecting the queries into the latents' space, or
//   projecting the results back, o, gate and up, down, q k v of the next layer.
// On a CPU, in other types, and for sizes that the kernel does not support, each product runs when it is added.
//
//   GemvChain chain;
//   const at::Tensor h = chain.product(attended, o.weight, {.residual = before});
//   const at::Tensor q = chain.product(h, cross.q.weight, {.norm = norm, .eps = eps});
//   chain.run();   // from here on h and q may be read
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <memory>

#include "ops/gemv/gemv.h"

namespace cepe {

// Not thread-safe. No gradients. All calls of one object are in the order of one stream, the device's current one.
//
// At most one chain may run on a device at a time: its blocks occupy every multiprocessor and wait for each other, so
// two chains would deadlock. Threads of one process take turns with ChainTurn. Processes that share a device (MPS)
// cannot take turns: they must pass joins = false.
class GemvChain {
 public:
  // joins: products become one kernel where the kernel is made for them; false: each is a call of gemv() or
  // batched_gemv(). tiles: products of more than dispatch::kGemvRows rows get semaphores, so that the skinny GEMM
  // applies.
  explicit GemvChain(bool joins = true, bool tiles = false);
  ~GemvChain();
  GemvChain(const GemvChain&) = delete;

  // gemv(). The result holds values after run(). Until then it may be x or residual, whole, of a product that is added
  // later. The chain owns references to what it reads and writes until run().
  at::Tensor product(const at::Tensor& x, const at::Tensor& weight_OI, const GemvOptions& options = {});
  at::Tensor product(const at::Tensor& x, const QuantisedWeight& weight_OI, const GemvOptions& options = {});

  // batched_gemv() of gemv.h.
  at::Tensor batched_gemv(const at::Tensor& x_BHI, const at::Tensor& matrices, bool transposed);

  // Launches what was added since the last run(). The workspace is allocated at the first call and grows with what is
  // added; graphs recorded before it grew must not be replayed. Error where it would grow while a CUDA graph is
  // recorded: run the same products once before recording.
  void run();

  // Drops what was added since the last run(), after an error.
  void discard();

  bool joins() const { return pending_ != nullptr; }

 private:
  // For a product of so many rows; undefined where it needs none.
  at::Tensor semaphores(const c10::Device& device, int64_t rows);

  struct Pending;
  std::unique_ptr<Pending> pending_;  // null: every product is computed when it is added
  bool tiles_;
  at::Tensor semaphores_;  // once they were wanted
};

// A lock on a device's chains. While it exists, only this thread launches chains there, alone or in a graph, on the
// device's current stream; chains of other threads' turns run before or after. Hold it briefly: others wait.
class ChainTurn {
 public:
  explicit ChainTurn(const c10::Device& device);
  ~ChainTurn();
  ChainTurn(const ChainTurn&) = delete;

 private:
  struct Device;
  Device* device_ = nullptr;  // null: none is needed
};

}  // namespace cepe
