#include "train/batches.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "base/error.h"
#include "base/random.h"

namespace cepe {
namespace {

constexpr uint64_t kChunksStream = 0x6368756E6B, kMaskStream = 0x6D61736B;
constexpr size_t kAhead = 4;

SpanSamplerOptions sampler_options(const TrainConfig& config) {
  SpanSamplerOptions options;
  options.span_tokens = config.span_tokens();
  options.filtered = config.filtered;
  options.concatenated = config.concatenated;
  options.domain_weights = config.domain_weights;
  options.seed = static_cast<uint64_t>(config.seed);
  return options;
}

at::Tensor pin(const at::Tensor& tensor) { return tensor.defined() ? tensor.pin_memory() : tensor; }

}  // namespace

Batch Batch::to(const at::Device& device) const {
  if (device.is_cpu()) return *this;
  auto move = [&](const at::Tensor& tensor) {
    return tensor.defined() ? tensor.to(tensor.options().device(device), /*non_blocking=*/true) : tensor;
  };
  return {move(ids_BML), move(mask_BML), move(decoder_BT1), documents};
}

Batch lay_out(const TrainConfig& config, const std::vector<int64_t>& tokens, int64_t chunks) {
  const int64_t span = config.span_tokens(), T = config.decoder_tokens, L = config.chunk_length, context = chunks * L;
  const int64_t samples = static_cast<int64_t>(tokens.size()) / span;
  const bool same = config.stage == "warmup";
  Batch batch;
  batch.ids_BML = at::empty({samples, chunks, L}, at::kLong);
  batch.decoder_BT1 = at::empty({samples, T + 1}, at::kLong);
  for (int64_t i = 0; i < samples; ++i) {
    const int64_t* begin = tokens.data() + i * span;
    const int64_t* decoder = begin + span - (T + 1);
    std::copy_n(decoder, T + 1, batch.decoder_BT1.data_ptr<int64_t>() + i * (T + 1));
    std::copy_n(same ? decoder : decoder - context, context, batch.ids_BML.data_ptr<int64_t>() + i * context);
  }
  return batch;
}

at::Tensor draw_chunk_mask(const at::Tensor& ids_BML, double share, const MaskKey& key) {
  const int64_t L = ids_BML.size(2), chunks = ids_BML.size(0) * ids_BML.size(1);
  at::Tensor mask_BML = at::ones(ids_BML.sizes(), at::kBool);
  bool* real = mask_BML.data_ptr<bool>();
  KeyedRandom random({key.seed, kMaskStream, key.step, key.micro_step});
  for (int64_t c = 0; c < chunks; ++c, real += L) {
    if (random.uniform() >= share) continue;
    const bool whole = random.below(10) == 0 || L == 1;
    const int64_t masked = whole ? L : 1 + random.below(L - 1);
    std::fill_n(real + L - masked, masked, false);
  }
  return mask_BML;
}

BatchBuilder::BatchBuilder(const TrainConfig& config, const Corpus& corpus)
    : config_(config), sampler_(corpus, sampler_options(config)) {}

Batch BatchBuilder::build(int64_t step, int64_t micro_step) const {
  const uint64_t seed = static_cast<uint64_t>(config_.seed), s = static_cast<uint64_t>(step),
                 m = static_cast<uint64_t>(micro_step);
  const int64_t span = config_.span_tokens(), samples = config_.micro_batch;
  std::vector<int64_t> tokens(static_cast<size_t>(samples * span)), documents;
  for (int64_t i = 0; i < samples; ++i) {
    const uint64_t sample = static_cast<uint64_t>(micro_step * samples + i);
    documents.push_back(sampler_.draw(s, sample, tokens.data() + i * span));
  }
  const auto& counts = config_.context_chunks;
  const int64_t chosen = KeyedRandom({seed, kChunksStream, s, m}).below(static_cast<int64_t>(counts.size()));
  Batch batch = lay_out(config_, tokens, counts[static_cast<size_t>(chosen)]);
  if (config_.mask_chunks > 0) batch.mask_BML = draw_chunk_mask(batch.ids_BML, config_.mask_chunks, {seed, s, m});
  batch.documents = std::move(documents);
  return batch;
}

Prefetcher::Prefetcher(const BatchBuilder& builder, Range range, bool pinned)
    : builder_(builder), range_(range), pinned_(pinned), thread_([this] { work(); }) {}

Prefetcher::~Prefetcher() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Prefetcher::work() {
  try {
    for (int64_t step = range_.first; step < range_.last; ++step) {
      for (int64_t micro = 0; micro < range_.micro_steps; ++micro) {
        Batch batch = builder_.build(step, micro);
        if (pinned_)
          batch = {pin(batch.ids_BML), pin(batch.mask_BML), pin(batch.decoder_BT1), std::move(batch.documents)};
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return stop_ || ready_.size() < kAhead; });
        if (stop_) return;
        ready_.push_back(std::move(batch));
        changed_.notify_all();
      }
    }
  } catch (...) {
    const std::lock_guard lock(mutex_);
    error_ = std::current_exception();
    changed_.notify_all();
  }
}

Batch Prefetcher::next() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return error_ || !ready_.empty(); });
  if (ready_.empty()) std::rethrow_exception(error_);
  Batch batch = std::move(ready_.front());
  ready_.pop_front();
  changed_.notify_all();
  return batch;
}

}  // namespace cepe
