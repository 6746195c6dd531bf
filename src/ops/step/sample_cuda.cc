#include "ops/cuda/launch.h"
#include "ops/step/sample.h"
#include "ops/step/sample_kernel.h"

namespace cepe {

bool DeviceSampler::applies(const c10::Device& device) { return device.is_cuda(); }

void DeviceSampler::launch(const at::Tensor& logits_BV, const at::Tensor& ids_B) {
  const cuda::Launch on(logits_BV);
  sample_kernel::Args args{};
  args.logits = logits_BV.const_data_ptr();
  args.bf16 = logits_BV.scalar_type() == at::kBFloat16;
  args.rows = batch_, args.vocabulary = vocabulary_, args.stride = logits_BV.size(1);
  args.settings = reinterpret_cast<sample_kernel::Settings*>(settings_.mutable_data_ptr());
  args.seen = seen_BV_.mutable_data_ptr<uint8_t>();
  args.scores = scores_BV_.mutable_data_ptr<float>();
  args.weights = reinterpret_cast<uint64_t*>(weights_BV_.mutable_data_ptr<int64_t>());
  args.chosen = ids_B.mutable_data_ptr<int64_t>();
  args.failed = failed_B_.mutable_data_ptr<int32_t>();
  sample_kernel::sample(args, on.stream());
}

}  // namespace cepe
