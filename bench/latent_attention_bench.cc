// Attention on shared latents beside LibTorch's own matrix products, which is what absorbed cross-attention would
// otherwise be: SmolLM2's and Llama-2-7B's shapes, one token and more. On a GPU also the rate of a plain copy in the
// same run, which bounds a kernel that reads every state once, and the kernel that every GPU runs ("any us", in 8 bits
// "any int8") beside the one that this GPU takes.
//
//   build/bench/latent_attention_bench [CONTEXT_TOKENS]
#include <ATen/ATen.h>
#include <ATen/DeviceAccelerator.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>

#include "ops/attention_mass/attention_mass.h"
#include "ops/latent/context_table.h"
#include "ops/latent/latent_attention.h"
#include "ops/latent/latent_attention_cuda.h"
#include "ops/latent/latent_int8.h"
#include "ops/step/captured_work.h"

namespace {

using Work = std::function<void()>;

struct Device {
  at::Device device = at::kCPU;
  int calls = 1;  // timed together: a GPU is given the next while it runs one
};

Device device() {
  if (at::hasCUDA()) return {at::kCUDA, 20};
  return {};
}

void wait(const Device& on) {
  if (on.device.is_cuda()) at::accelerator::synchronizeDevice(0);
}

// Median of five runs after one that warms up.
double seconds(const Device& on, const Work& work) {
  work();
  std::vector<double> runs(5);
  for (double& run : runs) {
    wait(on);
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < on.calls; ++i) work();
    wait(on);
    run = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / on.calls;
  }
  std::sort(runs.begin(), runs.end());
  return runs[2];
}

// The same, on a GPU as a CUDA graph, which leaves out what the host takes to start each kernel.
double seconds_recorded(const Device& on, const Work& work) {
  if (!on.device.is_cuda()) return seconds(on, work);
  cepe::CapturedWork recorded(on.device, true, work);
  recorded.run();
  return seconds(on, [&] { recorded.run(); });
}

struct Shape {
  const char* name;
  int64_t heads, width;
};

struct Asked {
  int64_t tokens;  // of the decoder, of all requests together or, with several contexts, of each
  int64_t contexts = 1;
};

void measure(const Device& on, const Shape& shape, at::ScalarType type, const Asked& asked, int64_t context) {
  at::manual_seed(1);
  const auto options = at::TensorOptions().device(on.device).dtype(type);
  const double scale = 0.125;
  const at::Tensor query = at::randn({asked.contexts, asked.tokens * shape.heads, shape.width}, options) / 10;
  const at::Tensor states = at::randn({asked.contexts, context, shape.width}, options);
  at::Tensor out;
  const double kernel = seconds_recorded(on, [&] { out = cepe::latent_attention(query, {states}, scale); });
  const cepe::Int8States bytes8 = cepe::quantize_states(states);
  const double narrow =
      seconds_recorded(on, [&] { out = cepe::latent_attention(query, {bytes8.values, {}, bytes8.scales}, scale); });
  const auto by_any_gpu = [&](const cepe::LatentStates& read) {
    return seconds_recorded(
        on, [&] { out = cepe::cuda_latent_attention(query, read, scale, cepe::CudaLatentForm::any_gpu); });
  };
  const double any = on.device.is_cuda() ? by_any_gpu({states}) : kernel;
  const double any_narrow = on.device.is_cuda() ? by_any_gpu({bytes8.values, {}, bytes8.scales}) : narrow;
  const double products = seconds(on, [&] {
    const at::Tensor scores = at::matmul(query, states.transpose(1, 2)).mul(scale).to(at::kFloat);
    at::matmul(scores.softmax(-1).to(type), states);
  });
  const double operations = 4.0 * static_cast<double>(query.numel() * context);
  const double bytes = static_cast<double>(states.nbytes());
  std::printf("%-12s %-9s %8ld %9ld x %-6ld %10.1f %10.0f %10.1f %10.1f %10.1f %10.1f %10.1f %12.1f %8.2f\n",
              shape.name, type == at::kFloat ? "float32" : "bfloat16", static_cast<long>(context),
              static_cast<long>(asked.contexts), static_cast<long>(asked.tokens), kernel * 1e6,
              operations / kernel / 1e9, bytes / kernel / 1e9, any * 1e6, narrow * 1e6,
              static_cast<double>(bytes8.values.nbytes() + bytes8.scales.nbytes()) / narrow / 1e9, any_narrow * 1e6,
              products * 1e6, products / kernel);
}

// Eight sequences with contexts of 1/8 to 8/8 of so many tokens: in one pass, and one after another, each as a CUDA
// graph.
void measure_lengths(const Device& on, const Shape& shape, int64_t longest, bool eight_bits) {
  constexpr int64_t kContexts = 8;
  at::manual_seed(1);
  const auto options = at::TensorOptions().device(on.device).dtype(at::kBFloat16);
  const at::Tensor query = at::randn({kContexts, shape.heads, shape.width}, options) / 10, out = at::empty_like(query);
  std::vector<cepe::TableRange> ranges;
  double bytes = 0;
  for (int64_t c = 0; c < kContexts; ++c) {
    cepe::LatentStates context{at::randn({1, longest * (c + 1) / kContexts, shape.width}, options)};
    if (eight_bits) {
      const cepe::Int8States narrow = cepe::quantize_states(context.states_BSE);
      context.states_BSE = narrow.values, context.scales_BS = narrow.scales;
    }
    bytes += static_cast<double>(context.states_BSE.nbytes());
    ranges.push_back({context, c, 1});
  }
  const cepe::TableBatch batch{on.device, at::kBFloat16, kContexts, shape.heads, shape.width};
  if (!cepe::context_table_applies(batch, ranges)) return;
  const cepe::ContextTable table(batch, ranges);
  cepe::CapturedWork pass(on.device, true, [&] { out.copy_(cepe::latent_attention(query, table, 0.125)); });
  cepe::CapturedWork each(on.device, true, [&] {
    for (const cepe::TableRange& range : ranges) {
      out.narrow(0, range.first, 1)
          .copy_(cepe::latent_attention(query.narrow(0, range.first, 1), range.context, 0.125));
    }
  });
  pass.run(), each.run();
  const double one = seconds(on, [&] { pass.run(); }), apart = seconds(on, [&] { each.run(); });
  std::printf(
      "%-12s %-9s %ld contexts up to %ld tokens: one pass %.1f us, %.0f GB/s; one after another %.1f us; ratio %.2f\n",
      shape.name, eight_bits ? "int8" : "bfloat16", static_cast<long>(kContexts), static_cast<long>(longest), one * 1e6,
      bytes / one / 1e9, apart * 1e6, apart / one);
}

// So many sequences that each read a context of their own, all of which are the same piece of memory: it stays in the
// second-level cache, and the kernel's own pace is seen.
void measure_in_cache(const Device& on, const Shape& shape, int64_t sequences, int64_t context, bool eight_bits) {
  at::manual_seed(1);
  const auto options = at::TensorOptions().device(on.device).dtype(at::kBFloat16);
  const at::Tensor query = at::randn({sequences, shape.heads, shape.width}, options) / 10;
  cepe::LatentStates states{at::randn({1, context, shape.width}, options)};
  if (eight_bits) {
    const cepe::Int8States narrow = cepe::quantize_states(states.states_BSE);
    states.states_BSE = narrow.values, states.scales_BS = narrow.scales;
  }
  std::vector<cepe::TableRange> ranges;
  for (int64_t c = 0; c < sequences; ++c) ranges.push_back({states, c, 1});
  const cepe::TableBatch batch{on.device, at::kBFloat16, sequences, shape.heads, shape.width};
  if (!cepe::context_table_applies(batch, ranges)) return;
  const cepe::ContextTable table(batch, ranges);
  at::Tensor out;
  const double taken = seconds_recorded(on, [&] { out = cepe::latent_attention(query, table, 0.125); });
  std::printf("%-12s %-9s %ld contexts that are one piece of %ld tokens in the cache: %.1f us, %.0f GB/s\n", shape.name,
              eight_bits ? "int8" : "bfloat16", static_cast<long>(sequences), static_cast<long>(context), taken * 1e6,
              static_cast<double>(sequences * states.states_BSE.nbytes()) / taken / 1e9);
}

// How much of the attention goes to each chunk of 256 tokens, as a CUDA graph on a GPU.
void measure_mass(const Device& on, const Shape& shape, at::ScalarType type, int64_t tokens, int64_t context) {
  at::manual_seed(1);
  const auto options = at::TensorOptions().device(on.device).dtype(type);
  const at::Tensor query = at::randn({1, tokens * shape.heads, shape.width}, options) / 10;
  const at::Tensor states = at::randn({1, context, shape.width}, options);
  std::vector<int64_t> lengths(static_cast<size_t>(context / 256), 256);
  if (context % 256 > 0) lengths.push_back(context % 256);
  const cepe::ChunkBounds chunks(lengths, on.device);
  at::Tensor mass;
  const auto once = [&] { mass = cepe::attention_mass(query, {states}, chunks, 0.125); };
  const auto graph = on.device.is_cuda() ? std::make_unique<cepe::CapturedWork>(on.device, true, once) : nullptr;
  if (graph) graph->run();
  const double taken = seconds(on, [&] { graph ? graph->run() : once(); });
  std::printf("%-12s %-9s mass by chunk, %ld tokens: %.1f us, %.0f GB/s\n", shape.name,
              type == at::kFloat ? "float32" : "bfloat16", static_cast<long>(tokens), taken * 1e6,
              static_cast<double>(states.nbytes()) / taken / 1e9);
}

// Bytes read and written a second by a copy of 1 GiB.
double copy_rate(const Device& on) {
  const at::Tensor from = at::ones({int64_t{1} << 29}, at::TensorOptions().device(on.device).dtype(at::kBFloat16));
  const at::Tensor to = at::empty_like(from);
  return 2.0 * static_cast<double>(from.nbytes()) / seconds(on, [&] { to.copy_(from); });
}

}  // namespace

int main(int argc, char** argv) {
  const Device on = device();
  const bool gpu = on.device.is_cuda();
  const int64_t context = argc > 1 ? std::atoll(argv[1]) : gpu ? 126976 : 32768;
  if (context <= 0) {
    std::fprintf(stderr, "latent_attention_bench: expected a positive number of context tokens, found %s\n", argv[1]);
    return 1;
  }
  const c10::NoGradGuard no_gradients;
  std::printf("%ld context tokens on %s; a copy reads and writes %.0f GB/s\n", static_cast<long>(context),
              on.device.str().c_str(), copy_rate(on) / 1e9);
  std::printf("%-12s %-9s %8s %18s %10s %10s %10s %10s %10s %10s %10s %12s %8s\n", "shape", "type", "context",
              "contexts x tokens", "kernel us", "GFLOP/s", "GB/s", "any us", "int8 us", "GB/s", "any int8",
              "products us", "ratio");
  for (const Shape& shape : {Shape{"SmolLM2", 9, 576}, Shape{"Llama-2-7B", 32, 1024}}) {
    if (gpu) {
      for (const Asked& asked : {Asked{1}, Asked{2}, Asked{3}, Asked{4}, Asked{16}, Asked{32}, Asked{1, 16}}) {
        measure(on, shape, at::kBFloat16, asked, context);
      }
      for (const int64_t short_context : {1024, 4096, 16384}) measure(on, shape, at::kBFloat16, {1}, short_context);
      for (const int64_t tokens : {1, 4}) measure_mass(on, shape, at::kBFloat16, tokens, context);
      for (const bool eight_bits : {false, true}) {
        for (const int64_t longest : {context, int64_t{8192}}) measure_lengths(on, shape, longest, eight_bits);
        measure_in_cache(on, shape, 32, 16384, eight_bits);
      }
    } else {
      for (const auto type : {at::kFloat, at::kBFloat16}) {
        for (const int64_t tokens : {1, 4}) measure(on, shape, type, {tokens}, context);
        measure_mass(on, shape, type, 1, context);
      }
    }
  }
}
