#include "speed/bench.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <optional>
#include <string_view>

#include "base/error.h"
#include "base/report.h"
#include "context/encode_context.h"
#include "model/additions.h"
#include "model/decode_step.h"
#include "speed/meter.h"

namespace cepe {
namespace {

using Kind = BenchTest::Kind;

constexpr int64_t kMostTokens = int64_t{1} << 32;

// The digits at the beginning of the text, which are taken off it.
std::optional<int64_t> take_number(std::string_view& text) {
  int64_t value = 0;
  size_t i = 0;
  for (; i < text.size() && text[i] >= '0' && text[i] <= '9'; ++i) {
    value = 10 * value + (text[i] - '0');
    if (value > kMostTokens) return std::nullopt;
  }
  text.remove_prefix(i);
  return i > 0 ? std::optional(value) : std::nullopt;
}

bool take(std::string_view& text, std::string_view prefix) {
  if (text.substr(0, prefix.size()) != prefix) return false;
  text.remove_prefix(prefix.size());
  return true;
}

// Begins and ends with an idle device.
double seconds_of(const c10::Device& device, const std::function<void()>& work) {
  wait_for(device);
  const double started = seconds_now();
  work();
  wait_for(device);
  return seconds_now() - started;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 ? values[half] : (values[half - 1] + values[half]) / 2;
}

at::Tensor random_ids(const Cepe& model, int64_t batch, int64_t tokens) {
  const auto options = at::TensorOptions().dtype(at::kLong).device(model.device());
  return at::randint(readable_tokens(model.config), {batch, tokens}, options);
}

// Random states as the last norm leaves them. In pieces, so that a long context is held once.
Latents random_latents(const Cepe& model, const BenchCase& what, bool int8) {
  const int64_t contexts = what.contexts(), tokens = what.test.context;
  if (contexts == 0 || tokens == 0) return {};
  const Stack& encoder = model.encoder->stack;
  const int64_t width = encoder.config.hidden_size, piece = 65536;
  const at::TensorOptions stored = model.any_weight().options();
  Latents latents{.states_BSE = at::empty({contexts, tokens, width}, int8 ? stored.dtype(at::kByte) : stored)};
  if (int8) latents.scales_BS = at::empty({contexts, tokens}, stored.dtype(at::kFloat));
  for (int64_t first = 0; first < contexts * tokens; first += piece) {
    const int64_t n = std::min(piece, contexts * tokens - first);
    Latents part{.states_BSE = rms_norm(at::randn({1, n, width}, stored), encoder.norm, encoder.config.rms_norm_eps)};
    if (int8) part = quantize(part);
    latents.states_BSE.view({-1, width}).narrow(0, first, n).copy_(part.states_BSE[0]);
    if (int8) latents.scales_BS.view({-1}).narrow(0, first, n).copy_(part.scales_BS[0]);
  }
  return latents;
}

// The chunks of a test's contexts, one context after another: whole ones, and what is left as a shorter one.
std::vector<TextChunk> random_chunks(const Cepe& model, const BenchCase& what) {
  std::vector<TextChunk> chunks;
  const at::Tensor ids_BS = random_ids(model, what.contexts(), what.test.context).to(at::kCPU, at::kInt);
  for (int64_t context = 0; context < what.contexts(); ++context) {
    const at::Tensor ids_S = ids_BS[context];
    append_chunks({ids_S.const_data_ptr<TokenId>(), static_cast<size_t>(ids_S.numel())}, "random",
                  context_chunk_length(model.config), chunks);
  }
  return chunks;
}

// As a user's context is encoded, tokens from the host's memory. (contexts, S, E)
Latents encode_all(const Cepe& model, const BenchCase& what, const std::vector<TextChunk>& chunks, bool int8) {
  Latents latents = encode_context(model, chunks, {.int8 = int8}).latents;
  if (latents.tokens() == 0) return latents;
  const int64_t contexts = what.contexts(), S = what.test.context;
  latents.states_BSE = latents.states_BSE.view({contexts, S, -1});
  if (int8) latents.scales_BS = latents.scales_BS.view({contexts, S});
  return latents;
}

// Each of the following makes what the test reads, and gives what is timed.

std::function<void()> prepare_encode(const Cepe& model, const BenchCase& what) {
  return [&model, what, chunks = random_chunks(model, what)] { encode_all(model, what, chunks, /*int8=*/false); };
}

// The encoded contexts of a test; with their keys and values where those are kept.
std::shared_ptr<Latents> encoded_contexts(const Cepe& model, const BenchCase& what, CrossAttentionForm form,
                                          bool int8) {
  auto latents = std::make_shared<Latents>(random_latents(model, what, int8));
  if (form == CrossAttentionForm::cached && what.contexts() > 0) {
    latents->cache = cache_context(model.decoder.stack, *latents);
  }
  return latents;
}

std::function<void()> prepare_prefill(const Cepe& model, const BenchCase& what, bool int8) {
  const auto latents = encoded_contexts(model, what, what.form, int8);
  const auto cache = std::make_shared<KeyValueCache>(make_cache(model.decoder.stack, what.batch, what.test.tokens));
  const at::Tensor ids = random_ids(model, what.batch, what.test.tokens);
  return [&model, latents, cache, ids, form = what.form] {
    cache->length = 0;
    const DecodeInput input{.ids_BT = ids, .context = latents.get(), .cache = cache.get(), .form = form, .last = 1};
    logits(model, decode(model, input));
  };
}

std::function<void()> prepare_score(const Cepe& model, const BenchCase& what, bool int8) {
  const at::Tensor ids = random_ids(model, what.batch, what.test.tokens);
  return [&model, chunks = random_chunks(model, what), ids, what, int8] {
    Latents latents = encode_all(model, what, chunks, int8);
    if (what.form == CrossAttentionForm::cached) latents.cache = cache_context(model.decoder.stack, latents);
    logits(model, decode(model, {.ids_BT = ids, .context = &latents, .form = what.form}));
  };
}

// What writing begins with.
struct GeneratePlan {
  int64_t window;
  CrossAttentionForm form;
  std::shared_ptr<Latents> latents;      // without tokens where there is no context
  std::shared_ptr<KeyValueCache> cache;  // holds the window
  at::Tensor first_B1;
};

// Token by token through decode().
std::function<void()> prepare_decoding(const Cepe& model, const BenchCase& what, const GeneratePlan& plan) {
  return [&model, plan, what] {
    plan.cache->length = plan.window;
    at::Tensor ids_B1 = plan.first_B1;
    for (int64_t i = 0; i < what.test.tokens; ++i) {
      const DecodeInput step{
          .ids_BT = ids_B1, .context = plan.latents.get(), .cache = plan.cache.get(), .form = plan.form, .last = 1};
      ids_B1 = logits(model, decode(model, step)).argmax(-1);  // greedy, on the device
    }
  };
}

std::function<void()> prepare_steps(const Cepe& model, const BenchCase& what, const GeneratePlan& plan,
                                    const BenchOptions& how) {
  DecodeStepOptions options{
      .form = plan.form, .chain = how.chain, .exclusive_device = how.exclusive_device, .graph = how.graph};
  if (plan.latents->tokens() > 0) options.contexts.push_back({*plan.latents, 0, what.batch});
  const auto step = std::make_shared<DecodeStep>(model, *plan.cache, options);
  const at::Tensor first = plan.first_B1.flatten().cpu();
  const std::vector<int64_t> ids(first.const_data_ptr<int64_t>(), first.const_data_ptr<int64_t>() + what.batch);
  const std::vector<int64_t> positions(what.batch, plan.window);
  // The first two runs load, allocate and record what the others repeat.
  step->place(ids, positions);
  for (int64_t i = 0; i < std::min<int64_t>(2, what.test.tokens); ++i) step->run();
  return [step, ids, positions, tokens = what.test.tokens] {
    step->place(ids, positions);
    for (int64_t i = 0; i < tokens; ++i) step->run();
  };
}

std::function<void()> prepare_generate(const Cepe& model, const BenchCase& what, const BenchOptions& options) {
  const int64_t window = options.window_tokens;
  GeneratePlan plan{.window = window, .form = form_taken(model.config, what, options, work_basis(model, options))};
  plan.latents = encoded_contexts(model, what, plan.form, options.int8_latents);
  plan.cache = std::make_shared<KeyValueCache>(make_cache(model.decoder.stack, what.batch, window + what.test.tokens));
  // The window is read without the context: other numbers in the cache, the same work for every written token.
  decode(model, {.ids_BT = random_ids(model, what.batch, window), .cache = plan.cache.get(), .last = 1});
  plan.first_B1 = random_ids(model, what.batch, 1);
  const bool steps = step_pays(model) && can_step(model, plan.cache->capacity);
  return steps ? prepare_steps(model, what, plan, options) : prepare_decoding(model, what, plan);
}

std::function<void()> prepare(const Cepe& model, const BenchCase& what, const BenchOptions& options) {
  switch (what.test.kind) {
    case Kind::encode: return prepare_encode(model, what);
    case Kind::prefill: return prepare_prefill(model, what, options.int8_latents);
    case Kind::score: return prepare_score(model, what, options.int8_latents);
    case Kind::generate: return prepare_generate(model, what, options);
  }
  return {};
}

// Tokens that tokens_per_second counts, of one repetition.
double counted_tokens(const BenchCase& what) {
  const double context = static_cast<double>(what.contexts()) * what.test.context;
  const double decoded = static_cast<double>(what.batch) * what.test.tokens;
  if (what.test.kind == Kind::encode) return context;
  return what.test.kind == Kind::score ? context + decoded : decoded;
}

// A context token's latent, and its keys and values where they are kept.
int64_t context_token_bytes(const CepeConfig& config, const BenchCase& what, const BenchOptions& options,
                            const WorkBasis& basis) {
  const int64_t latent =
      config.encoder->hidden_size * static_cast<int64_t>(basis.latent_bytes) + (options.int8_latents ? 4 : 0);
  const bool reads = what.test.kind != Kind::encode;
  if (reads && form_taken(config, what, options, basis) == CrossAttentionForm::cached) {
    const int64_t numbers = config.num_cross_attn_layers * 2 * config.decoder.num_kv_heads * config.decoder.head_dim;
    return latent + numbers * static_cast<int64_t>(basis.element_bytes);
  }
  return latent;
}

void time_repetitions(const Cepe& model, const BenchOptions& options, BenchRecord& record) {
  const std::function<void()> work = prepare(model, record.what, options);
  Meter meter(model.device());
  meter.start();
  for (int64_t i = 0; i < options.warmup; ++i) work();
  for (int64_t i = 0; i < options.repetitions; ++i) record.seconds.push_back(seconds_of(model.device(), work));
  record.peak_bytes = meter.stop().peak_bytes;
}

// The fastest of several runs, for at most about two seconds.
double fastest(const c10::Device& device, const std::function<void()>& work) {
  constexpr int kFewest = 3, kMost = 20;
  constexpr double kSeconds = 2;
  work();
  double best = std::numeric_limits<double>::infinity(), all = 0;
  for (int i = 0; i < kFewest || (i < kMost && all < kSeconds); ++i) {
    const double seconds = seconds_of(device, work);
    best = std::min(best, seconds);
    all += seconds;
  }
  return best;
}

}  // namespace

BenchTest parse_bench_test(const std::string& spelling) {
  std::string_view text = spelling;
  BenchTest test;
  const bool known = take(text, "enc")     ? (test.kind = Kind::encode, true)
                     : take(text, "score") ? (test.kind = Kind::score, true)
                     : take(text, "pp")    ? (test.kind = Kind::prefill, true)
                     : take(text, "tg")    ? (test.kind = Kind::generate, true)
                                           : false;
  const auto first = known ? take_number(text) : std::nullopt;
  std::optional<int64_t> context = 0;
  if (test.kind == Kind::encode) {
    context = first;
  } else if (take(text, "@c")) {
    context = take_number(text);
  }
  require(first && *first > 0 && context && text.empty(),
          "test \"{}\": expected enc<S>, pp<T>@c<S>, score<T>@c<S> or tg<N>@c<S> with numbers of tokens, such as "
          "enc4096, pp512@c32768 or tg32",
          spelling);
  test.tokens = test.kind == Kind::encode ? 0 : *first;
  test.context = *context;
  return test;
}

std::vector<BenchCase> bench_cases(const BenchSweep& sweep) {
  std::vector<BenchCase> cases;
  const auto same = [](const BenchCase& a, const BenchCase& b) {
    return a.test.name() == b.test.name() && a.batch == b.batch && a.shared == b.shared && a.form == b.form;
  };
  for (const BenchTest& test : sweep.tests) {
    for (const int64_t batch : sweep.batches) {
      for (const bool shared : sweep.shared) {
        for (const CrossAttentionForm form : sweep.forms) {
          BenchCase one{test, batch, shared, form};
          const bool encodes_only = test.kind == Kind::encode;
          if (test.context == 0 || batch == 1 || encodes_only) one.shared = false;
          if (test.context == 0 || encodes_only) one.form = CrossAttentionForm::automatic;
          const bool seen = std::any_of(cases.begin(), cases.end(), [&](const BenchCase& c) { return same(c, one); });
          if (!seen) cases.push_back(one);
        }
      }
    }
  }
  return cases;
}

void check_bench_case(const CepeConfig& config, const BenchCase& what, const BenchOptions& options) {
  const BenchTest& test = what.test;
  const std::string name = test.name();
  require(what.batch >= 1, "batch: expected 1 or more, found {}", what.batch);
  require(options.repetitions >= 1, "repetitions: expected 1 or more, found {}", options.repetitions);
  require(options.warmup >= 0, "warmup: expected 0 or more, found {}", options.warmup);
  require(test.context == 0 || config.encoder,
          "test {}: the model has no encoder: it is a plain decoder and cannot read a context", name);
  const int64_t most = decoder_window(config.decoder);
  if (test.kind == Kind::generate) {
    require(options.window_tokens >= 1, "window-tokens: expected 1 or more, found {}", options.window_tokens);
    require(options.window_tokens + test.tokens <= most,
            "test {}: {} tokens after a window of {} exceed the decoder's window of {}", name, test.tokens,
            options.window_tokens, most);
  } else {
    require(test.tokens <= most, "test {}: {} tokens exceed the decoder's window of {}", name, test.tokens, most);
  }
}

Ceilings measure_ceilings(const c10::Device& device, c10::ScalarType dtype) {
  const at::NoGradGuard no_gradients;
  const auto options = at::TensorOptions().device(device).dtype(dtype);
  const int64_t side = device.is_cpu() ? 2048 : 8192, bytes = device.is_cpu() ? int64_t{1} << 28 : int64_t{1} << 31;
  Ceilings ceilings;
  {
    const at::Tensor a = at::randn({side, side}, options), b = at::randn({side, side}, options);
    at::Tensor product = at::empty({side, side}, options);
    const double seconds = fastest(device, [&] { at::mm_out(product, a, b); });
    ceilings.operations_per_second = 2.0 * side * side * side / seconds;
  }
  const at::Tensor from = at::ones({bytes}, options.dtype(at::kByte)), to = at::empty_like(from);
  ceilings.bytes_per_second = 2.0 * bytes / fastest(device, [&] { to.copy_(from); });
  return ceilings;
}

BenchRecord run_bench(const Cepe& model, const BenchCase& what, const BenchOptions& options) {
  check_bench_case(model.config, what, options);
  const at::NoGradGuard no_gradients;
  const WorkBasis basis = work_basis(model, options);
  BenchRecord record;
  record.what = what;
  if (what.contexts() > 0) record.context_token_bytes = context_token_bytes(model.config, what, options, basis);
  if (what.contexts() > 0 && what.test.kind != Kind::encode) {
    record.form = cross_attention_form_name(form_taken(model.config, what, options, basis));
  }
  try {
    time_repetitions(model, options, record);
  } catch (const c10::OutOfMemoryError&) {
    record.seconds.clear();
    record.failure = "out of memory";
  }
  // What one case leaves in the allocator does not fit another's sizes.
  if (!model.device().is_cpu()) at::accelerator::emptyCache();
  if (!record.failure.empty()) return record;

  const Work work = count_work(model.config, what, options, basis);
  const double seconds = median(record.seconds);
  record.tokens_per_second = counted_tokens(what) / seconds;
  record.operations_per_second = work.operations / seconds;
  record.bytes_per_second = work.bytes / seconds;
  const double steps = what.test.kind == Kind::generate ? static_cast<double>(what.test.tokens) : 1;
  for (double& value : record.seconds) value /= steps;
  record.median_seconds = seconds / steps;
  return record;
}

PeakShare peak_share(const BenchRecord& record, const Ceilings& ceilings) {
  const double operations = record.operations_per_second / ceilings.operations_per_second;
  const double bytes = record.bytes_per_second / ceilings.bytes_per_second;
  return {std::max(operations, bytes), bytes > operations};
}

}  // namespace cepe
