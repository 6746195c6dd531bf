// What sparse reading costs and gains on a CPU (context/sparse_reading.h): a text is written again token by token
// after a context, the tokens before it, once reading all that is kept of the context and once for each share and each
// number of tokens between choices. Perplexity, the share of kept keys and values that was read, and seconds of a
// token.
//
//   build/bench/sparse_reading_bench MODEL TEXT DTYPE KEPT CONTEXT_TOKENS WINDOWS SHARES AGAIN
//   build/bench/sparse_reading_bench models/smollm2-135m-cepe book.txt bfloat16 int8 32768 4 0.9,0.99 32,128
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <map>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/error.h"
#include "context/encode_context.h"
#include "context/sparse_reading.h"
#include "model/checkpoint/checkpoint.h"
#include "text/chunker.h"
#include "text/text_file.h"

namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kPrompt = 256, kWritten = 256;

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

struct Setting {
  double share = 1;  // 1: all is read, without a choice
  int64_t again = 0;
  std::vector<double> losses = {};  // of windows
  double read = 0;                  // the share of keys and values, summed over windows
  std::vector<double> tokens = {};  // seconds of those that made no choice
  std::vector<double> choices = {};
};

struct Window {
  const cepe::Cepe& model;
  cepe::Latents latents;
  at::Tensor ids_T;  // prompt and written tokens
};

cepe::Latents encoded(const cepe::Cepe& model, std::span<const cepe::TokenId> tokens, at::ScalarType kept) {
  std::vector<cepe::TextChunk> chunks;
  cepe::append_chunks(tokens, "text", cepe::context_chunk_length(model.config), chunks);
  cepe::Latents latents = cepe::encode_context(model, chunks).latents;
  latents.cache = cepe::cache_context(model.decoder.stack, latents, kept);
  return latents;
}

void write_again(const Window& window, Setting& setting) {
  const cepe::Cepe& model = window.model;
  cepe::KeyValueCache cache = cepe::make_cache(model.decoder.stack, 1, kPrompt + kWritten);
  std::optional<cepe::SparseReading> sparse;
  if (setting.share < 1) sparse.emplace(window.latents, setting.share, setting.again);
  std::vector<at::Tensor> queries;
  // -> log-probabilities of the next token
  const auto read = [&](int64_t first, int64_t count, const cepe::Latents& context) {
    queries.clear();
    const at::Tensor hidden = cepe::decode(model, {.ids_BT = window.ids_T.narrow(0, first, count).unsqueeze(0),
                                                   .context = &context,
                                                   .cache = &cache,
                                                   .form = cepe::CrossAttentionForm::cached,
                                                   .last = 1,
                                                   .context_queries = sparse ? &queries : nullptr});
    return cepe::logits(model, hidden).view({-1}).to(at::kFloat).log_softmax(-1);
  };
  const int64_t* ids = window.ids_T.const_data_ptr<int64_t>();
  at::Tensor next = read(0, kPrompt, window.latents);
  double loss = 0;
  for (int64_t t = kPrompt; t < kPrompt + kWritten; ++t) {
    loss -= next[ids[t]].item<double>() / kWritten;
    Clock::time_point start = Clock::now();
    const cepe::Latents* context = &window.latents;
    if (sparse) {
      const bool due = sparse->due();
      sparse->asked(queries, 0);
      context = &sparse->next();
      if (due) setting.choices.push_back(since(start));
      start = Clock::now();
    }
    next = read(t, 1, *context);
    setting.tokens.push_back(since(start));
  }
  setting.losses.push_back(loss);
  setting.read += sparse ? sparse->mean_share() : 1;
}

// Of busy machines the best says most.
double least(const std::vector<double>& seconds) {
  return seconds.empty() ? 0 : *std::min_element(seconds.begin(), seconds.end());
}

void print(const std::vector<Setting>& settings) {
  const auto windows = static_cast<double>(settings[0].losses.size());
  const double all_seconds = least(settings[0].tokens);
  for (const Setting& setting : settings) {
    double loss = 0, more = 0, squares = 0;
    for (size_t w = 0; w < setting.losses.size(); ++w) {
      const double difference = setting.losses[w] - settings[0].losses[w];
      loss += setting.losses[w] / windows, more += difference / windows, squares += difference * difference / windows;
    }
    const double error = windows > 1 ? std::sqrt((squares - more * more) / (windows - 1)) : 0;
    const double token = least(setting.tokens), choice = least(setting.choices);
    const double seconds = token + (setting.again > 0 ? choice / static_cast<double>(setting.again) : 0);
    std::printf(
        "  share %-6g again %4ld: perplexity %8.4f, %+.2f %% (standard error %.2f), %6.2f %% read, a token "
        "%6.1f ms, a choice %6.1f ms, %5.1f tokens/s, %.2f x\n",
        setting.share, static_cast<long>(setting.again), std::exp(loss), 100 * std::expm1(more), 100 * error,
        100 * setting.read / windows, 1e3 * token, 1e3 * choice, 1 / seconds, all_seconds / seconds);
  }
}

std::vector<double> numbers(const std::string& list) {
  std::vector<double> found;
  std::istringstream parts(list);
  for (std::string part; std::getline(parts, part, ',');) found.push_back(std::stod(part));
  return found;
}

void measure(int argc, char** argv) {
  if (argc != 9) throw std::runtime_error("give MODEL TEXT DTYPE KEPT CONTEXT_TOKENS WINDOWS SHARES AGAIN");
  const std::map<std::string, at::ScalarType> types{
      {"float32", at::kFloat}, {"bfloat16", at::kBFloat16}, {"int8", at::kChar}};
  const cepe::OpenedModel opened = cepe::open_model(argv[1], {.dtype = types.at(argv[3])});
  const int64_t context = std::stol(argv[5]), windows = std::stol(argv[6]);
  cepe::require(windows > 0, "WINDOWS: expected 1 or more, found {}", windows);
  std::string text;
  cepe::read_text_file(argv[2], "text", [&](const cepe::TextDocument& document) { text += document.text; });
  const std::vector<cepe::TokenId> tokens = opened.tokenizer->encode(text);
  const int64_t size = context + kPrompt + kWritten;
  const int64_t step = (static_cast<int64_t>(tokens.size()) - size) / std::max<int64_t>(1, windows - 1);
  cepe::require(step > 0, "{}: {} tokens are too few", argv[2], tokens.size());
  std::vector<Setting> settings{{}};
  for (const double share : numbers(argv[7])) {
    for (const double again : numbers(argv[8])) settings.push_back({share, static_cast<int64_t>(again)});
  }
  for (int64_t w = 0; w < windows; ++w) {
    const std::span<const cepe::TokenId> here(tokens.data() + w * step, static_cast<size_t>(size));
    const auto behind = here.subspan(static_cast<size_t>(context));
    const Window window{opened.model,
                        encoded(opened.model, here.first(static_cast<size_t>(context)), types.at(argv[4])),
                        at::tensor(std::vector<int64_t>(behind.begin(), behind.end()), at::kLong)};
    for (Setting& setting : settings) write_again(window, setting);
    std::printf("%s, kept in %s: %ld windows of %ld tokens after %ld of prompt and %ld of context\n", argv[3], argv[4],
                static_cast<long>(w + 1), static_cast<long>(kWritten), static_cast<long>(kPrompt),
                static_cast<long>(context));
    print(settings);
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const c10::NoGradGuard no_gradients;
  try {
    measure(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "sparse_reading_bench: %s\n", error.what());
    return 1;
  }
  return 0;
}
