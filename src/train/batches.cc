#include "train/batches.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "base/random.h"

namespace cepe {
namespace {

constexpr uint64_t kChunksStream = 0x6368756E6B, kMaskStream = 0x6D61736B;
constexpr size_t kAhead = 2;  // steps
// Sizes of batches whose samples differ: kernels are chosen, planned and given memory once for each new shape, which
// takes a GPU's host far longer than the padding takes the GPU. Samples of 1 to 64 chunks and 1 to 1,024 positions meet
// some 300 shapes in 600 steps so, some 1,500 without.
constexpr int64_t kPositionStep = 64;
// Chunks with a token are encoded once wherever they stand; every chunk of a batch has keys and values in each
// cross-attention, some eighth of the work of encoding it.
constexpr int64_t kUnreadChunkShare = 8;
// The least of 1, 2, 3, 4, 6, 8, 12, 16, 24, ... that is no less than n; 0 of 0.
int64_t rounded_up(int64_t n) {
  const auto power = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(n)));
  if (n <= 2) return n;
  return n <= power / 4 * 3 ? power / 4 * 3 : power;
}
// Chunks encoded together are cheap to pad: eight sizes between two powers of two.
int64_t rounded_up_chunks(int64_t n) {
  const auto step = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(n)) / 8);
  return step < 2 ? n : (n + step - 1) / step * step;
}

SpanSamplerOptions span_options(const TrainConfig& config) {
  SpanSamplerOptions options;
  options.span_tokens = config.span_tokens();
  options.filtered = config.filtered;
  options.concatenated = config.concatenated;
  options.domain_weights = config.domain_weights;
  options.seed = static_cast<uint64_t>(config.seed);
  return options;
}

int64_t chunks_of(const Sample& sample) { return static_cast<int64_t>(sample.chunks.size()); }

// What the samples of a batch are padded to: nothing where all are alike, as plain samples are.
struct PaddedShape {
  int64_t chunks = 0, positions = 0;
};

class ShapeOfBatch {
 public:
  explicit ShapeOfBatch(const TrainConfig& config)
      : plain_{config.max_context_tokens() / config.chunk_length, config.plain_positions()} {}
  void add(const Sample& sample) {
    const int64_t chunks = chunks_of(sample), positions = sample.positions();
    alike_ = alike_ && (size_ == 0 || (chunks == longest_.chunks && positions == longest_.positions));
    longest_ = {std::max(longest_.chunks, chunks), std::max(longest_.positions, positions)};
    ++size_;
  }
  bool alike() const { return alike_; }
  PaddedShape padded() const {
    if (alike_ && longest_.positions == plain_.positions) return longest_;
    const int64_t positions = kPositionStep * rounded_up((longest_.positions + kPositionStep - 1) / kPositionStep);
    const int64_t chunks = rounded_up(longest_.chunks);
    // Windows were checked for the largest plain sample, whose context a teacher reads as text, and for the positions
    // of each sample: padding does not go beyond them.
    return {longest_.chunks <= plain_.chunks ? std::min(chunks, plain_.chunks) : chunks,
            std::max(longest_.positions, std::min(positions, plain_.positions))};
  }

 private:
  const PaddedShape plain_;  // of the largest plain sample
  int64_t size_ = 0;
  bool alike_ = true;
  PaddedShape longest_;
};

SampleShape shape_of(const Sample& sample) {
  const int64_t scored = sample.weights.empty() ? sample.positions()
                                                : std::count_if(sample.weights.begin(), sample.weights.end(),
                                                                [](float w) { return w > 0; });
  return {sample.context_tokens(), chunks_of(sample), sample.positions(), scored};
}

// Of the sample's scored labels.
double weight_of(const Sample& sample) {
  if (sample.weights.empty()) return static_cast<double>(sample.positions());
  return std::accumulate(sample.weights.begin(), sample.weights.end(), 0.0);
}

// Chunks without a token are left out, but for as many as round the number up.
at::Tensor chunks_to_encode(const std::vector<const Sample*>& samples, int64_t chunks) {
  std::vector<int64_t> encoded, empty;
  for (size_t i = 0; i < samples.size(); ++i) {
    for (int64_t c = 0; c < chunks; ++c) {
      const bool read = c < chunks_of(*samples[i]) && samples[i]->chunks[static_cast<size_t>(c)] > 0;
      (read ? encoded : empty).push_back(static_cast<int64_t>(i) * chunks + c);
    }
  }
  const auto wanted = static_cast<size_t>(rounded_up_chunks(static_cast<int64_t>(encoded.size())));
  if (encoded.empty() || wanted >= encoded.size() + empty.size()) return {};
  encoded.insert(encoded.end(), empty.begin(), empty.begin() + static_cast<int64_t>(wanted - encoded.size()));
  return at::tensor(encoded, at::kLong);
}

void fill_context(Batch& batch, const std::vector<const Sample*>& samples, int64_t chunks, int64_t L) {
  const int64_t B = static_cast<int64_t>(samples.size());
  if (chunks == 0) return;
  batch.ids_BML = at::zeros({B, chunks, L}, at::kLong);
  at::Tensor mask_BML = at::zeros({B, chunks, L}, at::kBool);
  bool whole = true;
  for (int64_t i = 0; i < B; ++i) {
    const Sample& sample = *samples[static_cast<size_t>(i)];
    const int64_t* from = sample.tokens.data();
    whole = whole && chunks_of(sample) == chunks;
    for (int64_t c = 0; c < chunks_of(sample); ++c) {
      const int64_t length = sample.chunks[static_cast<size_t>(c)], at = (i * chunks + c) * L;
      std::copy_n(from, length, batch.ids_BML.data_ptr<int64_t>() + at);
      std::fill_n(mask_BML.data_ptr<bool>() + at, length, true);
      from += length;
      whole = whole && length == L;
    }
  }
  if (whole) return;
  batch.mask_BML = mask_BML;
  batch.encoded_R = chunks_to_encode(samples, chunks);
}

void fill_scores(Batch& batch, const std::vector<const Sample*>& samples, int64_t T) {
  std::vector<int64_t> scored;
  std::vector<float> weights;
  bool one = true;
  for (size_t i = 0; i < samples.size(); ++i) {
    const int64_t positions = samples[i]->positions();
    for (int64_t t = 0; t < positions; ++t) {
      const float weight = samples[i]->weights.empty() ? 1 : samples[i]->weights[static_cast<size_t>(t)];
      if (weight == 0) continue;
      scored.push_back(static_cast<int64_t>(i) * T + t);
      weights.push_back(weight);
      one = one && weight == 1;
    }
  }
  const bool all = scored.size() == samples.size() * static_cast<size_t>(T);
  if (!all) batch.scored_N = at::tensor(scored, at::kLong);
  if (!one) batch.weight_N = at::tensor(weights, at::kFloat);
  batch.weight = std::accumulate(weights.begin(), weights.end(), 0.0);
}

template <typename Change>
Batch changed(const Batch& batch, Change change) {
  Batch out = batch;
  for (at::Tensor* tensor :
       {&out.ids_BML, &out.mask_BML, &out.encoded_R, &out.decoder_BT1, &out.scored_N, &out.weight_N}) {
    if (tensor->defined()) *tensor = change(*tensor);
  }
  return out;
}

}  // namespace

int64_t Batch::tokens() const {
  int64_t sum = 0;
  for (const SampleShape& shape : shapes) sum += shape.context_tokens + shape.decoder_tokens;
  return sum;
}

Batch Batch::to(const at::Device& device) const {
  if (device.is_cpu()) return *this;
  return changed(*this, [&](const at::Tensor& tensor) {
    return tensor.to(tensor.options().device(device), /*non_blocking=*/true);
  });
}

Batch Batch::pinned() const {
  return changed(*this, [](const at::Tensor& tensor) { return tensor.pin_memory(); });
}

Sample plain_sample(const TrainConfig& config, const int64_t* span, int64_t chunks) {
  const int64_t context = chunks * config.chunk_length;
  const int64_t* end = span + config.span_tokens();
  const int64_t* decoder = end - (config.decoder_tokens + 1);
  Sample sample;
  sample.chunks.assign(static_cast<size_t>(chunks), config.chunk_length);
  const int64_t* begin = config.stage == Stage::warmup ? decoder : decoder - context;
  sample.tokens.assign(begin, begin + context);
  sample.tokens.insert(sample.tokens.end(), decoder, end);
  return sample;
}

Sample stage_sample(const TrainConfig& config, const int64_t* span, int64_t chunks, const MaskKey& key) {
  if (config.stage != Stage::mlm) return plain_sample(config, span, config.has_encoder() ? chunks : 0);
  return masked_piece({span, span + config.chunk_length}, config.mlm_mask_share, key);
}

void mask_chunks(Sample& sample, double share, const MaskKey& key) {
  KeyedRandom random({key.seed, kMaskStream, key.step, key.sample});
  std::vector<int64_t> kept;
  auto from = sample.tokens.begin();
  for (int64_t& length : sample.chunks) {
    const auto next = from + length;
    if (random.uniform() < share) {
      const bool whole = random.below(10) == 0 || length == 1;
      length -= whole ? length : 1 + random.below(length - 1);
    }
    kept.insert(kept.end(), from, from + length);
    from = next;
  }
  kept.insert(kept.end(), from, sample.tokens.end());
  sample.tokens = std::move(kept);
}

Batch lay_out(const TrainConfig& config, const std::vector<Sample>& samples) {
  std::vector<size_t> all(samples.size());
  std::iota(all.begin(), all.end(), 0);
  return lay_out(config, samples, all);
}

Batch lay_out(const TrainConfig& config, const std::vector<Sample>& all, const std::vector<size_t>& indices) {
  std::vector<const Sample*> samples;
  for (size_t i : indices) samples.push_back(&all[i]);
  const int64_t B = static_cast<int64_t>(samples.size());
  ShapeOfBatch shape(config);
  for (const Sample* sample : samples) shape.add(*sample);
  const auto [chunks, T] = shape.padded();
  Batch batch;
  fill_context(batch, samples, chunks, config.chunk_length);
  batch.decoder_BT1 = at::zeros({B, T + 1}, at::kLong);
  for (int64_t i = 0; i < B; ++i) {
    const Sample& sample = *samples[static_cast<size_t>(i)];
    std::copy(sample.tokens.begin() + sample.context_tokens(), sample.tokens.end(),
              batch.decoder_BT1.data_ptr<int64_t>() + i * (T + 1));
    batch.shapes.push_back(shape_of(sample));
  }
  fill_scores(batch, samples, T);
  return batch;
}

std::vector<std::vector<size_t>> cut_into_batches(const TrainConfig& config, const std::vector<Sample>& samples,
                                                  std::vector<size_t> indices, int64_t batch_tokens) {
  std::stable_sort(indices.begin(), indices.end(), [&](size_t a, size_t b) {
    return std::pair(samples[a].chunks.size(), samples[a].positions()) <
           std::pair(samples[b].chunks.size(), samples[b].positions());
  });
  const int64_t most_chunks = config.micro_batch * (config.max_context_tokens() / config.chunk_length);
  const int64_t most_positions = config.micro_batch * config.plain_positions();
  // least[n]: the least cost of the first n, whose last batch begins at first[n].
  std::vector<int64_t> least(indices.size() + 1, std::numeric_limits<int64_t>::max());
  std::vector<size_t> first(indices.size() + 1, 0);
  least[0] = 0;
  for (size_t end = 1; end <= indices.size(); ++end) {
    ShapeOfBatch shape(config);
    for (size_t begin = end; begin-- > 0;) {
      shape.add(samples[indices[begin]]);
      const size_t count = end - begin;
      const auto size = static_cast<int64_t>(count);
      const auto [chunks, positions] = shape.padded();
      if (size > 1 && (size * chunks > most_chunks || size * positions > most_positions)) break;
      if (!shape.alike() && !std::has_single_bit(count)) continue;
      const int64_t cost =
          least[begin] + size * (chunks * config.chunk_length / kUnreadChunkShare + positions) + batch_tokens;
      if (cost > least[end]) continue;  // of equal ones the larger batch
      least[end] = cost;
      first[end] = begin;
    }
  }
  std::vector<std::vector<size_t>> batches;
  for (size_t end = indices.size(); end > 0; end = first[end]) {
    batches.emplace_back(indices.begin() + static_cast<std::ptrdiff_t>(first[end]),
                         indices.begin() + static_cast<std::ptrdiff_t>(end));
  }
  std::reverse(batches.begin(), batches.end());
  return batches;
}

int64_t gpu_batch_tokens(double flops_per_token) {
  return std::max<int64_t>(1, std::llround(kGpuBatchFlops / std::max(flops_per_token, 1.0)));
}

BatchBuilder::BatchBuilder(const TrainConfig& config, const Corpus& plain, const Corpus& ask, const Options& options)
    : config_(config), options_(options) {
  if (!plain.documents.empty()) sampler_.emplace(plain, span_options(config));
  if (ask.documents.empty()) return;
  SampleSampler::Options asking;
  asking.samples_per_step = config.ask_share * static_cast<double>(config.batch);
  asking.weight = static_cast<float>(config.ask_weight);
  asking.seed = static_cast<uint64_t>(config.seed);
  asking.domain_weights = config.ask_weights;
  asked_.emplace(ask, asking);
}

std::vector<Sample> BatchBuilder::draw(int64_t step) const {
  const uint64_t seed = static_cast<uint64_t>(config_.seed), s = static_cast<uint64_t>(step);
  const auto& counts = config_.context_chunks;
  const int64_t plain = plain_samples(step);
  std::vector<int64_t> span(static_cast<size_t>(config_.span_tokens()));
  std::vector<Sample> samples;
  for (int64_t i = 0; i < plain; ++i) {
    const uint64_t n = static_cast<uint64_t>(i);
    sampler_->draw(s, n, span.data());
    const int64_t chosen = KeyedRandom({seed, kChunksStream, s, n}).below(static_cast<int64_t>(counts.size()));
    samples.push_back(stage_sample(config_, span.data(), counts[static_cast<size_t>(chosen)], {seed, s, n}));
    if (config_.has_encoder() && config_.mask_chunks > 0)
      mask_chunks(samples.back(), config_.mask_chunks, {seed, s, n});
  }
  for (int64_t i = 0; plain + i < config_.batch; ++i) samples.push_back(asked_->draw(step, i));
  return samples;
}

std::vector<size_t> share_of_rank(const std::vector<Sample>& samples, const RankOf& rank) {
  const auto tokens = [&](size_t i) { return samples[i].context_tokens() + samples[i].positions(); };
  std::vector<size_t> largest_first(samples.size()), own;
  std::iota(largest_first.begin(), largest_first.end(), 0);
  std::stable_sort(largest_first.begin(), largest_first.end(),
                   [&](size_t a, size_t b) { return tokens(a) > tokens(b); });
  std::vector<int64_t> load(static_cast<size_t>(rank.size), 0);
  for (const size_t i : largest_first) {
    const auto least = std::min_element(load.begin(), load.end());
    *least += tokens(i);
    if (least - load.begin() == rank.rank) own.push_back(i);
  }
  std::sort(own.begin(), own.end());
  return own;
}

// Plain samples and those of data.ask are not mixed: their decoder parts differ in length, and padding costs time.
StepBatches BatchBuilder::build(int64_t step) const {
  const std::vector<Sample> samples = draw(step);
  const auto plain = static_cast<size_t>(plain_samples(step));
  StepBatches out;
  for (size_t i = 0; i < samples.size(); ++i) {
    out.shapes.push_back(shape_of(samples[i]));
    out.weight += weight_of(samples[i]);
    out.answers_weight += i < plain ? 0 : weight_of(samples[i]);
  }
  const std::vector<size_t> own = share_of_rank(samples, options_.rank);
  const auto first_asked = std::lower_bound(own.begin(), own.end(), plain);
  for (const bool asked : {false, true}) {
    const std::vector<size_t> kind =
        asked ? std::vector(first_asked, own.end()) : std::vector(own.begin(), first_asked);
    for (const std::vector<size_t>& indices : cut_into_batches(config_, samples, kind, options_.batch_tokens)) {
      out.batches.push_back(lay_out(config_, samples, indices));
      out.batches.back().asked = asked;
    }
  }
  return out;
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
      StepBatches next = builder_.build(step);
      if (pinned_) {
        for (Batch& batch : next.batches) batch = batch.pinned();
      }
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stop_ || ready_.size() < kAhead; });
      if (stop_) return;
      ready_.push_back(std::move(next));
      changed_.notify_all();
    }
  } catch (...) {
    const std::lock_guard lock(mutex_);
    error_ = std::current_exception();
    changed_.notify_all();
  }
}

StepBatches Prefetcher::next() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return error_ || !ready_.empty(); });
  if (ready_.empty()) std::rethrow_exception(error_);
  StepBatches next = std::move(ready_.front());
  ready_.pop_front();
  changed_.notify_all();
  return next;
}

}  // namespace cepe
