#include "ops/step/step_executor.h"

#include <optional>
#include <utility>

#include "ops/chain/gemv_chain.h"
#include "ops/step/captured_work.h"

namespace cepe {

StepExecutor::StepExecutor(const c10::Device& device, const StepExecutorOptions& options, std::function<void()> work)
    : device_(device),
      products_(std::make_unique<GemvChain>(options.chains, options.skinny)),
      work_(std::make_unique<CapturedWork>(device, options.graph, [this, work = std::move(work)] {
        products_->discard();  // what an error in the run before may have left
        work();
      })) {}

StepExecutor::~StepExecutor() = default;

void StepExecutor::run() {
  std::optional<ChainTurn> turn;
  if (products_->joins()) turn.emplace(device_);
  work_->run();
}

at::Tensor StepExecutor::gemv(const at::Tensor& x, const Matrix& weight_OI, const GemvOptions& options) {
  return weight_OI.quantised ? products_->product(x, *weight_OI.quantised, options)
                             : products_->product(x, weight_OI.weight, options);
}

at::Tensor StepExecutor::batched_gemv(const at::Tensor& x_BHI, const at::Tensor& matrices, bool transposed) {
  return products_->batched_gemv(x_BHI, matrices, transposed);
}

void StepExecutor::launch() { products_->run(); }

}  // namespace cepe
