// What the type of kept keys and values costs and gains on a CPU: perplexity over windows of a text, each with the
// tokens before it as context, and the time of a written token over one context, in turns.
//
//   build/bench/kept_types_bench MODEL TEXT float32|bfloat16 CONTEXT_TOKENS WINDOWS
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/error.h"
#include "context/encode_context.h"
#include "model/checkpoint/checkpoint.h"
#include "model/loss.h"
#include "text/chunker.h"
#include "text/text_file.h"

namespace {

constexpr int64_t kWindow = 512, kScored = 256;

struct Kept {
  const char* name;
  at::ScalarType type;
  double nll = 0;
  std::vector<double> differences = {};  // of windows' losses to float32's
  std::vector<double> seconds = {};      // of one token
  int64_t bytes = 0;
};

cepe::Latents encoded(const cepe::Cepe& model, std::span<const cepe::TokenId> tokens) {
  std::vector<cepe::TextChunk> chunks;
  cepe::append_chunks(tokens, "text", cepe::context_chunk_length(model.config), chunks);
  return cepe::encode_context(model, chunks).latents;
}

at::Tensor ids_of(std::span<const cepe::TokenId> tokens) {
  return at::tensor(std::vector<int64_t>(tokens.begin(), tokens.end()), at::kLong).unsqueeze(0);
}

double loss_of(const cepe::Cepe& model, const at::Tensor& ids, const cepe::Latents& context) {
  const at::Tensor labels = ids.clone();
  labels.narrow(1, 0, ids.size(1) - kScored).fill_(-100);
  const at::Tensor hidden =
      cepe::decode(model, {.ids_BT = ids, .context = &context, .form = cepe::CrossAttentionForm::cached});
  return cepe::next_token_loss(model, hidden, labels).item<double>();
}

double token_seconds(const cepe::Cepe& model, const at::Tensor& id, const cepe::Latents& context) {
  const auto start = std::chrono::steady_clock::now();
  cepe::decode(model, {.ids_BT = id, .context = &context, .form = cepe::CrossAttentionForm::cached});
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void measure(int argc, char** argv) {
  if (argc != 6) throw std::runtime_error("give MODEL TEXT float32|bfloat16 CONTEXT_TOKENS WINDOWS");
  cepe::OpenOptions open;
  open.dtype = std::string(argv[3]) == "float32" ? at::kFloat : at::kBFloat16;
  const cepe::OpenedModel opened = cepe::open_model(argv[1], open);
  const int64_t context = std::stol(argv[4]), windows = std::stol(argv[5]);
  cepe::require(windows > 0, "WINDOWS: expected 1 or more, found {}", windows);
  std::string text;
  cepe::read_text_file(argv[2], "text", [&](const cepe::TextDocument& document) { text += document.text; });
  const std::vector<cepe::TokenId> tokens = opened.tokenizer->encode(text);
  const int64_t step = (static_cast<int64_t>(tokens.size()) - context - kWindow) / std::max<int64_t>(1, windows - 1);
  cepe::require(step > 0, "{}: {} tokens are too few", argv[2], tokens.size());
  std::vector<Kept> all = {{"float32", at::kFloat}, {"bfloat16", at::kBFloat16}, {"8 bits", at::kChar}};
  for (int64_t w = 0; w < windows; ++w) {
    const std::span<const cepe::TokenId> here(tokens.data() + w * step, static_cast<size_t>(context + kWindow));
    cepe::Latents latents = encoded(opened.model, here.first(static_cast<size_t>(context)));
    const at::Tensor ids = ids_of(here.last(kWindow));
    double first = 0;
    for (Kept& kept : all) {
      latents.cache = cepe::cache_context(opened.model.decoder.stack, latents, kept.type);
      const double loss = loss_of(opened.model, ids, latents);
      if (kept.type == at::kFloat) first = loss;
      kept.nll += loss / static_cast<double>(windows);
      kept.differences.push_back(loss - first);
      kept.bytes = latents.cache->bytes();
      for (int i = 0; i < 3; ++i) kept.seconds.push_back(token_seconds(opened.model, ids.narrow(1, 0, 1), latents));
    }
  }
  std::printf("%s: %ld windows of %ld tokens after %ld of context\n", argv[3], static_cast<long>(windows),
              static_cast<long>(kScored), static_cast<long>(context));
  for (Kept& kept : all) {
    double mean = 0, largest = 0;
    for (const double d : kept.differences) {
      mean += d / static_cast<double>(windows), largest = std::max(largest, std::abs(d));
    }
    std::printf("  %-9s perplexity %8.4f, %+.4f %% (largest of a window %.3f %%), %7.1f MB, a token %7.1f ms at best\n",
                kept.name, std::exp(kept.nll), 100 * std::expm1(mean), 100 * std::expm1(largest),
                static_cast<double>(kept.bytes) / 1e6,
                1e3 * *std::min_element(kept.seconds.begin(), kept.seconds.end()));
  }
}

}  // namespace

int main(int argc, char** argv) {
  const c10::NoGradGuard no_gradients;
  try {
    measure(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "kept_types_bench: %s\n", error.what());
    return 1;
  }
  return 0;
}
