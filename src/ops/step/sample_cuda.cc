#include "ops/cuda/launch.h"
#include "ops/step/sample.h"
#include "ops/step/sample_kernel.h"

namespace cepe {

bool DeviceSampler::applies(const c10::Device& device) { return device.is_cuda(); }

void DeviceSampler::launch(const at::Tensor& logits_NV, const at::Tensor& ids_N, int64_t first) {
  const cuda::Launch on(logits_NV);
  sample_kernel::Args args{};
  args.logits = logits_NV.const_data_ptr();
  args.bf16 = logits_NV.scalar_type() == at::kBFloat16;
  args.rows = logits_NV.size(0), args.vocabulary = vocabulary_, args.stride = logits_NV.size(1);
  args.settings = reinterpret_cast<sample_kernel::Settings*>(settings_.mutable_data_ptr()) + first;
  args.seen = seen_BV_.mutable_data_ptr<uint8_t>() + first * vocabulary_;
  args.scores = scores_BV_.mutable_data_ptr<float>() + first * vocabulary_;
  args.weights = reinterpret_cast<uint64_t*>(weights_BV_.mutable_data_ptr<int64_t>()) + first * vocabulary_;
  args.chosen = ids_N.mutable_data_ptr<int64_t>();
  args.failed = failed_B_.mutable_data_ptr<int32_t>() + first;
  sample_kernel::sample(args, on.stream());
}

}  // namespace cepe
