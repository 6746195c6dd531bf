// Products with a few rows that follow one another, as a decoding step's do: o of self-attention, q of cross-attention,
// moving the queries; or back from the latents, o, gate and up, down, the next layer's q, k and v. On a CUDA device in
// bfloat16 they are one kernel, which keeps weights coming from memory while a product's outputs go from all
// multiprocessors to all others (docs/kernels/gemv_chain.md); elsewhere, and for sizes that the kernel is not made
// for, each is computed when it is added.
//
//   GemvChain chain;
//   const at::Tensor h = chain.product(attended, o.weight, {.residual = before});
//   const at::Tensor q = chain.product(h, cross.q.weight, {.norm = norm, .eps = eps});
//   chain.run();   // from here on anyone may read h and q
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <memory>

#include "ops/gemv/gemv.h"

namespace cepe {

// Not thread-safe; no gradients. Calls are in the order of the device's current stream, the same for all calls of one
// object. On one device no two chains may run at a time, for each takes all multiprocessors, and would wait for those
// that the other one has: whoever may not be alone holds a ChainTurn. Processes that share a device at the same time
// (MPS) cannot take turns: they want joins = false.
class GemvChain {
 public:
  // joins: whether products become one kernel where they can; else each is a call of gemv() or batched_gemv().
  // tiles: whether those of more than kGemvRows rows are given the memory that our kernel for them wants
  // (GemvOptions::semaphores).
  explicit GemvChain(bool joins = true, bool tiles = false);
  ~GemvChain();
  GemvChain(const GemvChain&) = delete;

  // gemv(). The result may be read by others after run(), and be x or residual, whole, of what is added to this
  // chain later. The chain keeps what it reads and writes until then.
  at::Tensor product(const at::Tensor& x, const at::Tensor& weight_OI, const GemvOptions& options = {});
  at::Tensor product(const at::Tensor& x, const QuantisedWeight& weight_OI, const GemvOptions& options = {});

  // batched_gemv() of gemv.h.
  at::Tensor batched_gemv(const at::Tensor& x_BHI, const at::Tensor& matrices, bool transposed);

  // Starts what was added and is not started. Its memory of signals is allocated at the first call, and grows with what
  // is added, after which graphs recorded before must not be replayed; Error where it would grow while a CUDA graph is
  // recorded: run the same once before.
  void run();

  // Forgets what was added and is not started: where an error came between.
  void discard();

  bool joins() const { return pending_ != nullptr; }

 private:
  // What a product of so many rows is given; undefined: nothing.
  at::Tensor semaphores(const c10::Device& device, int64_t rows);

  struct Pending;
  std::unique_ptr<Pending> pending_;  // null: every product is computed when it is added
  bool tiles_;
  at::Tensor semaphores_;  // once they were wanted
};

// While it exists, this thread starts chains on the device's current stream, alone or in a graph; those that other
// threads start on other streams, each in a turn of its own, run before or after. Short: others wait for it.
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
