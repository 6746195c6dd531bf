// The encoder on chunks of different lengths: packed, and padded to the longest, in turn. On a GPU where there is one
// (bfloat16), else on the CPU (float32).
//
//   build/bench/packed_chunks_bench [SHAPE [CHUNKS [SHORTEST [LONGEST [PADDED_TO]]]]]
//
// The defaults: smollm2-135m+8x15 (on a GPU llama-2-7b+mlm-large), 40 retrieved passages as chunks of
// 60 to 200 tokens, padded to 256. Lengths are evenly spread and shuffled; ids are random.
#include <ATen/ATen.h>
#include <ATen/DeviceAccelerator.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "ops/ops.h"
#include "speed/shapes.h"

namespace {

bool gpu() { return at::hasCUDA(); }

double seconds(const std::function<at::Tensor()>& work) {
  const auto wait = [] {
    if (gpu()) at::accelerator::synchronizeDevice(0);
  };
  wait();
  const auto start = std::chrono::steady_clock::now();
  work();
  wait();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

struct Asked {
  std::string shape = gpu() ? "llama-2-7b+mlm-large" : "smollm2-135m+8x15";
  int64_t chunks = 40, shortest = 60, longest = 200, padded_to = 256;
};

Asked parse(int argc, char** argv) {
  Asked asked;
  if (argc > 1) asked.shape = argv[1];
  int64_t* const numbers[] = {&asked.chunks, &asked.shortest, &asked.longest, &asked.padded_to};
  cepe::require(argc <= 6, "expected at most 5 arguments, found {}", argc - 1);
  for (int i = 2; i < argc; ++i) *numbers[i - 2] = std::atoll(argv[i]);
  cepe::require(
      asked.chunks > 0 && asked.shortest > 0 && asked.shortest <= asked.longest && asked.longest <= asked.padded_to,
      "expected 0 < CHUNKS, 0 < SHORTEST <= LONGEST <= PADDED_TO");
  return asked;
}

std::vector<int64_t> lengths_of(const Asked& asked) {
  std::vector<int64_t> lengths;
  for (int64_t i = 0; i < asked.chunks; ++i) {
    lengths.push_back(asked.shortest + (asked.longest - asked.shortest) * i / std::max<int64_t>(1, asked.chunks - 1));
  }
  std::shuffle(lengths.begin(), lengths.end(), std::mt19937_64(1));
  return lengths;
}

void run(const Asked& asked) {
  const at::Device device = gpu() ? at::kCUDA : at::kCPU;
  cepe::CepeConfig config = cepe::shape_config(asked.shape);
  config.decoder.num_layers = config.num_cross_attn_layers = 1;  // only its embedding is read
  const cepe::Cepe model = cepe::random_model(config, {.device = device, .dtype = gpu() ? at::kBFloat16 : at::kFloat});
  const std::vector<int64_t> lengths = lengths_of(asked);
  const int64_t tokens = std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
  const auto options = at::TensorOptions().dtype(at::kLong).device(device);
  const at::Tensor ids_ML = at::randint(config.decoder.vocab_size, {asked.chunks, asked.padded_to}, options);
  const at::Tensor mask_ML =
      at::arange(asked.padded_to, options).unsqueeze(0) < at::tensor(lengths, at::kLong).to(device).unsqueeze(1);
  const cepe::ContextChunks padded{ids_ML.unsqueeze(0), mask_ML.unsqueeze(0)};
  const cepe::PackedChunks packed{ids_ML.masked_select(mask_ML), lengths};
  const auto work_padded = [&] { return cepe::encode(model, padded).states_BSE; };
  const auto work_packed = [&] { return cepe::encode_packed(model, packed).states_BSE; };
  std::vector<double> of_padded, of_packed, ratios;
  for (int i = 0; i < 2; ++i) seconds(work_padded), seconds(work_packed);
  for (int i = 0; i < 11; ++i) {
    of_padded.push_back(seconds(work_padded));
    of_packed.push_back(seconds(work_packed));
    ratios.push_back(of_packed.back() / of_padded.back());
  }
  const at::Tensor real = work_padded()[0].index({mask_ML.flatten()}).to(at::kFloat);
  const double apart = ((work_packed()[0].to(at::kFloat) - real).norm() / real.norm()).item<double>();
  std::printf("%s on %s, %ld chunks of %ld to %ld tokens, %ld in all, padded to %ld: %ld\n", asked.shape.c_str(),
              device.str().c_str(), static_cast<long>(asked.chunks), static_cast<long>(asked.shortest),
              static_cast<long>(asked.longest), static_cast<long>(tokens), static_cast<long>(asked.padded_to),
              static_cast<long>(asked.chunks * asked.padded_to));
  std::printf(
      "padded %.2f ms, packed %.2f ms, packed / padded %.3f (tokens %.3f), %.0f real tokens/s, states apart by "
      "%.1e of their norm\n",
      median(of_padded) * 1e3, median(of_packed) * 1e3, median(ratios),
      static_cast<double>(tokens) / static_cast<double>(asked.chunks * asked.padded_to),
      static_cast<double>(tokens) / median(of_packed), apart);
}

}  // namespace

int main(int argc, char** argv) try {
  const c10::NoGradGuard no_gradients;
  cepe::configure_attention_backends();
  run(parse(argc, argv));
} catch (const std::exception& error) {
  std::fprintf(stderr, "packed_chunks_bench: %s\n", error.what());
  return 1;
}
