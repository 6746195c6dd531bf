// The frequencies of every rope kind, after Hugging Face's modeling_rope_utils; see docs/models.md for the papers.
#include <ATen/ATen.h>

#include <cmath>

#include "model/layers.h"

namespace cepe {
namespace {

constexpr double kPi = 3.14159265358979323846;

std::vector<double> base_frequencies(double theta, int64_t head_dim) {
  std::vector<double> frequencies(head_dim / 2);
  for (int64_t i = 0; i < head_dim / 2; ++i) frequencies[i] = std::pow(theta, -2.0 * i / head_dim);
  return frequencies;
}

// Llama 3.1: long wavelengths are divided by the factor, short ones kept, those between interpolated.
void scale_llama3(const RopeConfig& rope, int64_t original, std::vector<double>& frequencies) {
  const double longest = original / rope.low_freq_factor, shortest = original / rope.high_freq_factor;
  for (double& f : frequencies) {
    const double wavelength = 2 * kPi / f;
    if (wavelength > longest) {
      f /= rope.factor;
    } else if (wavelength >= shortest) {
      const double smooth =
          (original / wavelength - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
      f = (1 - smooth) * f / rope.factor + smooth * f;
    }
  }
}

// YaRN (Peng et al. 2023, arXiv 2309.00071): dimensions that turn often are kept, slow ones interpolated, a ramp
// between.
void scale_yarn(const StackConfig& config, int64_t original, std::vector<double>& frequencies) {
  const RopeConfig& rope = config.rope;
  const auto dimension = [&](double turns) {
    return config.head_dim * std::log(original / (turns * 2 * kPi)) / (2 * std::log(rope.theta));
  };
  double low = dimension(rope.beta_fast), high = dimension(rope.beta_slow);
  if (rope.truncate) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0), high = std::min(high, static_cast<double>(config.head_dim - 1));
  if (high == low) high += 0.001;
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    frequencies[i] = frequencies[i] / rope.factor * ramp + frequencies[i] * (1 - ramp);
  }
}

}  // namespace

RotaryTable rotary_table(const StackConfig& config, int64_t positions) {
  const RopeConfig& rope = config.rope;
  const int64_t original = rope.original_positions ? rope.original_positions : config.max_positions;
  double theta = rope.theta, scale = 1.0;
  if (rope.kind == RopeKind::dynamic && positions > config.max_positions) {
    // NTK-aware scaling that grows with the sequence.
    theta *= std::pow(rope.factor * positions / config.max_positions - (rope.factor - 1),
                      config.head_dim / (config.head_dim - 2.0));
  }
  std::vector<double> frequencies = base_frequencies(theta, config.head_dim);
  if (rope.kind == RopeKind::linear) {
    for (double& f : frequencies) f /= rope.factor;
  } else if (rope.kind == RopeKind::llama3) {
    scale_llama3(rope, original, frequencies);
  } else if (rope.kind == RopeKind::yarn) {
    scale_yarn(config, original, frequencies);
    scale = rope.attention_factor > 0 ? rope.attention_factor : 0.1 * std::log(rope.factor) + 1.0;
  }
  for (size_t i = 0; i < rope.frequency_divisors.size(); ++i) frequencies[i] /= rope.frequency_divisors[i];
  const auto options = at::TensorOptions().dtype(at::kDouble);
  const at::Tensor angles = at::outer(at::arange(positions, options), at::tensor(frequencies, options));
  return {angles.cos() * scale, angles.sin() * scale};
}

RotaryCache& RotaryCache::operator=(const RotaryCache& other) {
  if (this == &other) return *this;
  const std::scoped_lock lock(mutex_, other.mutex_);
  table_ = other.table_;
  positions_ = other.positions_;
  return *this;
}

RotaryTable RotaryCache::table(const StackConfig& config, int64_t positions, const at::Tensor& like) const {
  const std::lock_guard lock(mutex_);
  const at::ScalarType type = like.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const bool same = table_.cos.defined() && table_.cos.device() == like.device() && table_.cos.scalar_type() == type;
  // Dynamic frequencies change with every length beyond the original window; the others only need enough rows.
  const bool dynamic = config.rope.kind == RopeKind::dynamic;
  const int64_t least = dynamic ? std::max(positions, config.max_positions) : positions;
  if (same && (dynamic ? positions_ == least : positions_ >= least)) return table_;
  // Grown generously, so that a decoding loop does not rebuild it at each token.
  const int64_t wanted = dynamic ? least : std::max(positions, same ? 2 * positions_ : int64_t{512});
  const RotaryTable exact = rotary_table(config, wanted);
  table_ = {exact.cos.to(like.device(), type), exact.sin.to(like.device(), type)};
  positions_ = wanted;
  return table_;
}

}  // namespace cepe
