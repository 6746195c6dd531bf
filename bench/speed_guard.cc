// A guard against regressions of speed on a CPU: our operations beside LibTorch's plain ones that compute the same, in
// one run, each pair alternating, so that the ratio of their times says what an absolute time cannot: whether ours
// became slower, whatever else the machine is doing. docs/bench.md has the table's meaning.
//
//   build/bench/speed_guard [--scale-limits FACTOR]
//
// Exit status 0: every ratio is at or above its limit. 1: one stayed below it in three tries, or the results of a pair
// differ; one sentence on standard error says which.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "ops/attention_cpu.h"
#include "ops/context/context_attention.h"
#include "ops/gemv/quantised_weight.h"
#include "ops/latent/latent_attention.h"
#include "ops/latent/latent_int8.h"
#include "ops/ops.h"

namespace {

using Work = std::function<at::Tensor()>;

// What the processor has, and LibTorch uses (ATEN_CPU_CAPABILITY can hold it to less).
// Intel's processors stand apart: a product in bfloat16 takes them two cycles (AMD's one), and LibTorch's products are
// MKL's, which is faster there, so that the same operation of ours has another ratio.
enum class Instructions { avx512_bf16, avx512_bf16_intel, avx512, avx2, other };

// How many times as fast as LibTorch ours must be at least: 70 % of what was measured with these instructions on an
// idle machine of 2 cores, and what still holds with two busy processes beside it. AVX2's are at most 80 % of the least
// ratio on one core of a busy AMD processor and on a Xeon held to AVX2, most of them 1.0. 0: no limit, only shown.
struct Limits {
  double avx512_bf16 = 0, intel = 0, avx512 = 0, avx2 = 0;
  double of(Instructions instructions) const {
    switch (instructions) {
      case Instructions::avx512_bf16: return avx512_bf16;
      case Instructions::avx512_bf16_intel: return intel;
      case Instructions::avx512: return avx512;
      case Instructions::avx2: return avx2;
      case Instructions::other: return 0;
    }
    return 0;
  }
};
// Of a pair in float32, where products in bfloat16 play no part. avx2 0: not measured to hold there.
Limits wide(double avx512, double intel, double avx2 = 0) { return {avx512, intel, avx512, avx2}; }
// Of a pair in bfloat16: with AVX-512 without products in it LibTorch emulates them, which says little about ours.
Limits half(double avx512_bf16, double intel, double avx2 = 0) { return {avx512_bf16, intel, 0, avx2}; }

struct Pair {
  std::string what;
  Work ours, peer;
  double tolerance;  // of the norm of their difference to the norm of the peer's result
  Limits limits;
};

struct Ratio {
  double median = 0;                          // of peer / ours: times as fast
  double ours_seconds = 0, peer_seconds = 0;  // medians
};

Instructions instructions() {
#if defined(__x86_64__)
  const std::string used = at::get_cpu_capability();
  if (used == "AVX512" && !__builtin_cpu_supports("avx512bf16")) return Instructions::avx512;
  if (used == "AVX512") return __builtin_cpu_is("intel") ? Instructions::avx512_bf16_intel : Instructions::avx512_bf16;
  if (used == "AVX2") return Instructions::avx2;
#endif
  return Instructions::other;
}

const char* name_of(Instructions instructions) {
  switch (instructions) {
    case Instructions::avx512_bf16: return "AVX-512 with bfloat16 products";
    case Instructions::avx512_bf16_intel: return "AVX-512 with bfloat16 products, Intel";
    case Instructions::avx512: return "AVX-512 without bfloat16 products: pairs in bfloat16 have no limit";
    case Instructions::avx2: return "AVX2 without AVX-512";
    case Instructions::other: return "neither AVX-512 nor AVX2: ratios are shown, none has a limit";
  }
  return "";
}

double seconds_of(const Work& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

// Both in turn, first one then the other leading, for a third of a second and at least 15 times. The two times of a
// pair lie a few milliseconds apart, so that what slows the machine slows both.
Ratio measure(const Pair& pair) {
  constexpr double kSeconds = 0.35;
  constexpr size_t kFewest = 15, kMost = 301;
  std::vector<double> ours, peer, ratios;
  double all = 0;
  while (ratios.size() < kFewest || (ratios.size() < kMost && all < kSeconds)) {
    const bool ours_first = ratios.size() % 2 == 0;
    const double first = seconds_of(ours_first ? pair.ours : pair.peer);
    const double second = seconds_of(ours_first ? pair.peer : pair.ours);
    ours.push_back(ours_first ? first : second);
    peer.push_back(ours_first ? second : first);
    ratios.push_back(peer.back() / ours.back());
    all += first + second;
  }
  return {median(ratios), median(ours), median(peer)};
}

// A ratio of two things that compute something else would guard nothing.
void check_same(const Pair& pair) {
  const at::Tensor ours = pair.ours().to(at::kDouble), peer = pair.peer().to(at::kDouble);
  const double error = (ours - peer.view_as(ours)).norm().item<double>() / peer.norm().item<double>();
  cepe::require(error <= pair.tolerance,
                "{}: the result is {:.2g} of its norm away from LibTorch's, expected at most {}", pair.what, error,
                pair.tolerance);
}

const char* type_name(at::ScalarType type) { return type == at::kFloat ? "float32" : "bfloat16"; }

double tolerance(at::ScalarType type) { return type == at::kFloat ? 1e-4 : 2e-2; }

at::Tensor random(at::IntArrayRef sizes, at::ScalarType type) { return at::randn(sizes).to(type); }

struct LatentShape {
  int64_t rows, width, tokens;
};

// Attention on shared latents beside two matrix products and a softmax.
Pair latent_pair(const LatentShape& shape, at::ScalarType type, const Limits& limits) {
  const at::Tensor query = random({1, shape.rows, shape.width}, type) / 10;
  const at::Tensor states = random({1, shape.tokens, shape.width}, type);
  return {fmt::format("latent attention, {} rows of {} over {} tokens, {}", shape.rows, shape.width, shape.tokens,
                      type_name(type)),
          [=] { return cepe::latent_attention(query, {states}, 0.3); },
          [=] {
            const at::Tensor scores = at::matmul(query, states.transpose(1, 2)).mul(0.3).to(at::kFloat);
            return at::matmul(scores.softmax(-1).to(type), states);
          },
          tolerance(type), limits};
}

// States in 8 bits beside the same states in the wide type, in LibTorch's products.
Pair int8_latent_pair(const LatentShape& shape, at::ScalarType type, const Limits& limits) {
  const at::Tensor query = random({1, shape.rows, shape.width}, type) / 10;
  const at::Tensor states = random({1, shape.tokens, shape.width}, type);
  const cepe::Int8States narrow = cepe::quantize_states(states);
  return {fmt::format("latent attention, states in 8 bits beside {}, {} rows of {}", type_name(type), shape.rows,
                      shape.width),
          [=] { return cepe::latent_attention(query, {narrow.values, {}, narrow.scales}, 0.3); },
          [=] {
            const at::Tensor scores = at::matmul(query, states.transpose(1, 2)).mul(0.3).to(at::kFloat);
            return at::matmul(scores.softmax(-1).to(type), states);
          },
          3e-2, limits};
}

// One query token on kept keys and values beside LibTorch's attention, the query heads of a key-value head as its rows.
Pair context_pair(int64_t tokens, at::ScalarType type, const Limits& limits) {
  constexpr int64_t H = 9, G = 3, K = 64;
  const at::Tensor q = random({1, 1, H, K}, type);
  const at::Tensor k = random({1, tokens, G, K}, type), v = random({1, tokens, G, K}, type);
  cepe::ContextKeysValues kept = cepe::make_context_keys_values({1, G, tokens, K}, k.options());
  cepe::write_keys_values(kept, 0, k, v);
  const at::Tensor k_CGSK = k.transpose(1, 2).contiguous(), v_CGSK = v.transpose(1, 2).contiguous();
  return {fmt::format("kept keys and values, 1 token of 9 heads on 3 over {} tokens, {}", tokens, type_name(type)),
          [=] { return cepe::context_attention(q, kept, {}); },
          [=] { return at::scaled_dot_product_attention(q.view({1, G, H / G, K}), k_CGSK, v_CGSK).view({1, 1, H, K}); },
          tolerance(type), limits};
}

// Flash attention of many queries, 9 heads on 3: of a text to itself (causal), and over a context. Called directly, so
// that the ratio is shown where attention() takes LibTorch's.
Pair flash_pair(int64_t tokens, int64_t context, const Limits& limits) {
  constexpr int64_t H = 9, G = 3, K = 64;
  const bool causal = context == 0;
  const int64_t keys = causal ? tokens : context;
  const at::Tensor q = at::randn({1, tokens, H, K}), k = at::randn({1, keys, G, K}), v = at::randn({1, keys, G, K});
  return {fmt::format("attention of {} tokens of 9 heads on 3 {}, float32", tokens,
                      causal ? "to themselves" : fmt::format("over {} tokens", context)),
          [=] { return cepe::cpu_flash_attention(q, k, v, {.causal = causal}); },
          [=] {
            const at::Tensor heads = q.transpose(1, 2), k_BGSK = k.transpose(1, 2), v_BGSK = v.transpose(1, 2);
            if (causal) {
              return at::scaled_dot_product_attention(heads, k_BGSK, v_BGSK, {}, 0.0, true, {}, true).transpose(1, 2);
            }
            const at::Tensor rows = heads.reshape({1, G, H / G * tokens, K});
            return at::scaled_dot_product_attention(rows, k_BGSK, v_BGSK).view({1, H, tokens, K}).transpose(1, 2);
          },
          tolerance(at::kFloat), limits};
}

// Some rows times a packed matrix beside the same matrix in the rows' type.
Pair packed_pair(cepe::WeightType packing, int64_t rows, at::ScalarType type, const Limits& limits) {
  constexpr int64_t kSide = 2048;
  const at::Tensor x = random({rows, kSide}, type);
  const cepe::QuantisedWeight packed = cepe::quantise_weight(at::randn({kSide, kSide}), packing);
  const at::Tensor wide = cepe::dequantise_weight(packed, type);
  return {fmt::format("{} weights, {} rows, {} x {}, {}", cepe::weight_type_name(packing), rows, kSide, kSide,
                      type_name(type)),
          [=] { return cepe::quantised_linear(x, packed); }, [=] { return at::linear(x, wide); }, 2e-2, limits};
}

// The residual addition and norm of one token, and of many, beside LibTorch's.
Pair norm_pair(int64_t rows, at::ScalarType type, const Limits& limits) {
  const at::Tensor x = random({rows, 576}, type), y = random({rows, 576}, type), weight = random({576}, type);
  return {fmt::format("addition and norm, {} rows of 576, {}", rows, type_name(type)),
          [=] { return cepe::add_rms_norm(x, y, weight, 1e-5).normed; },
          [=] { return at::rms_norm(x + y, {576}, weight, 1e-5); }, tolerance(type), limits};
}

Pair rotary_pair(int64_t tokens, at::ScalarType type, const Limits& limits) {
  const at::Tensor x = random({1, tokens, 9, 64}, type), angle = at::rand({tokens, 32}) * 6;
  const cepe::RotaryTable table{angle.cos(), angle.sin()};
  const at::Tensor cos = table.cos.unsqueeze(1).to(type), sin = table.sin.unsqueeze(1).to(type);
  return {fmt::format("rotary positions, {} tokens of 9 heads, {}", tokens, type_name(type)),
          [=] { return cepe::rotary(x, table, 0); },
          [=] {
            const at::Tensor a = x.narrow(3, 0, 32), b = x.narrow(3, 32, 32);
            return at::cat({a * cos - b * sin, b * cos + a * sin}, 3);
          },
          tolerance(type), limits};
}

// The loss of some rows of a large vocabulary beside logits and LibTorch's cross-entropy.
Pair cross_entropy_pair(at::ScalarType type, const Limits& limits) {
  const at::Tensor hidden = random({64, 256}, type) / 16, head = random({16384, 256}, type);
  const at::Tensor labels = at::randint(16384, {64}, at::kLong);
  return {
      fmt::format("cross-entropy of 64 rows, vocabulary 16384, {}", type_name(type)),
      [=] { return cepe::linear_cross_entropy(hidden, head, labels); },
      [=] { return at::cross_entropy_loss(at::linear(hidden, head).to(at::kFloat), labels, {}, at::Reduction::None); },
      tolerance(type), limits};
}

std::vector<std::function<Pair()>> pairs() {
  using cepe::WeightType;
  const auto f = at::kFloat, b = at::kBFloat16;
  const LatentShape smollm2{9, 576, 4096}, llama{32, 1024, 2048};
  return {
      [=] { return latent_pair(smollm2, f, wide(1.65, 1.13, 1.1)); },
      [=] { return latent_pair(smollm2, b, half(1.65, 2.4, 1.5)); },
      [=] { return latent_pair(llama, f, wide(1.0, 0.93, 1.0)); },
      [=] { return latent_pair(llama, b, half(1.5, 2.6, 1.0)); },
      [=] { return int8_latent_pair(smollm2, f, wide(1.5, 0.89, 1.0)); },
      [=] { return context_pair(8192, f, wide(1.7, 1.0, 1.0)); },
      [=] { return context_pair(8192, b, half(2.3, 1.1, 1.0)); },
      [=] { return flash_pair(593, 0, wide(0, 0, 1.1)); },
      [=] { return flash_pair(256, 4096, wide(0, 0, 0.85)); },
      [=] { return packed_pair(WeightType::int8, 1, f, wide(1.0, 0, 1.0)); },
      [=] { return packed_pair(WeightType::int8, 1, b, half(1.4, 1.6, 1.0)); },
      [=] { return packed_pair(WeightType::int4, 1, f, wide(3.3, 1.3, 1.1)); },
      [=] { return packed_pair(WeightType::int4, 1, b, half(1.9, 1.65, 1.0)); },
      [=] { return packed_pair(WeightType::int8, 256, f, wide(0.65, 1.0, 0.7)); },
      [=] { return packed_pair(WeightType::int4, 256, f, wide(0.65, 1.0, 0.7)); },
      [=] { return norm_pair(1, f, wide(4.5, 4.4, 4.0)); },
      [=] { return norm_pair(16, b, half(0.85, 0.9, 0.85)); },
      [=] { return rotary_pair(16, f, wide(3.4, 2.9, 2.9)); },
      [=] { return cross_entropy_pair(f, wide(0.68, 0.68, 0.68)); },
  };
}

struct Verdict {
  bool good = true;
  std::string sentence;  // where it is not
};

// Measures a pair and prints its line of the table.
Verdict judge(const Pair& pair, double scale) {
  const double limit = pair.limits.of(instructions()) * scale;
  check_same(pair);
  const Ratio ratio = measure(pair);
  const bool good = ratio.median >= limit;
  const std::string bound = limit > 0 ? fmt::format("{:.2f}", limit) : "none";
  std::printf("%-72s %9.1f %9.1f %7.2f %7s  %s\n", pair.what.c_str(), ratio.ours_seconds * 1e6,
              ratio.peer_seconds * 1e6, ratio.median, bound.c_str(),
              limit <= 0 ? "shown"
              : good     ? "good"
                         : "too slow");
  std::fflush(stdout);
  return {good,
          fmt::format("{}: expected at least {} times LibTorch's speed, found {:.2f}", pair.what, bound, ratio.median)};
}

double scale_of(int argc, char** argv) {
  if (argc == 1) return 1;
  char* end = nullptr;
  const double scale = argc == 3 && std::string(argv[1]) == "--scale-limits" ? std::strtod(argv[2], &end) : 0;
  cepe::require(end && *end == 0 && scale > 0, "expected no arguments, or --scale-limits and a positive factor");
  return scale;
}

}  // namespace

int main(int argc, char** argv) try {
  const double scale = scale_of(argc, argv);
  const c10::NoGradGuard no_gradients;
  // The limits are of two threads; what more cores would change differs from machine to machine.
  at::set_num_threads(static_cast<int>(std::min(2u, std::max(1u, std::thread::hardware_concurrency()))));
  std::printf("%d threads, %s\n", at::get_num_threads(), name_of(instructions()));
  std::printf("%-72s %9s %9s %7s %7s\n", "what", "ours us", "peer us", "ratio", "limit");
  // What is below its limit is measured again when the others are done: what is slow stays slow, a disturbance passes.
  constexpr int kTries = 3;
  std::vector<std::function<Pair()>> left = pairs();
  std::string sentences;
  for (int attempt = 1; attempt <= kTries && !left.empty(); ++attempt) {
    if (attempt > 1) std::printf("once more, what was too slow (try %d of %d)\n", attempt, kTries);
    std::vector<std::function<Pair()>> slow;
    sentences.clear();
    for (const auto& make : left) {
      at::manual_seed(1);
      const Verdict verdict = judge(make(), scale);
      if (verdict.good) continue;
      slow.push_back(make);
      sentences += (sentences.empty() ? "" : "; ") + verdict.sentence;
    }
    left = std::move(slow);
  }
  cepe::require(left.empty(), "{} (the last of {} tries)", sentences, kTries);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "speed_guard: %s\n", error.what());
  return 1;
}
