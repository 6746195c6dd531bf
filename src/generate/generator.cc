#include "generate/generator.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "base/error.h"
#include "base/report.h"
#include "generate/stop_filter.h"

namespace cepe {
namespace {

// Text as it becomes certain: whole characters, less what a stop string may still take back.
class TextOutput {
 public:
  TextOutput(const GenerateInput& input, const GenerateOptions& options, Generation& made)
      : decoder_(input.tokenizer.streaming_decoder()), filter_(options.stop), on_text_(options.on_text), made_(made) {
    // SentencePiece drops a text's first space: only a decoder that has seen the prompt knows that this is no
    // beginning.
    if (!options.continues_prompt) return;
    for (const TokenId token : input.prompt) decoder_->push(token);
  }
  bool push(TokenId token) {  // -> false when a stop string came
    show(filter_.push(decoder_->push(token)));
    return !filter_.stopped();
  }
  bool finish() {
    show(filter_.push(decoder_->finish()));
    show(filter_.finish());
    return !filter_.stopped();
  }

 private:
  void show(const std::string& text) {
    if (text.empty()) return;
    made_.text += text;
    if (on_text_) on_text_(text);
  }
  std::unique_ptr<StreamingDecoder> decoder_;
  StopFilter filter_;
  const std::function<void(std::string_view)>& on_text_;
  Generation& made_;
};

// The tokens that prompt and answer may have together, after checking that there is room for one.
int64_t room(const GenerateInput& input, const GenerateOptions& options) {
  const int64_t window = decoder_window(input.model.config.decoder);
  const int64_t prompt = static_cast<int64_t>(input.prompt.size());
  require(options.max_tokens > 0, "max-tokens: expected 1 or more, found {}", options.max_tokens);
  require(prompt > 0, "the prompt has no tokens");
  require(prompt < window,
          "the prompt has {} tokens, which leaves no room for an answer in the decoder's window of {}: shorten it, "
          "or give the longer part as context",
          prompt, window);
  return options.max_tokens < window - prompt ? prompt + options.max_tokens : window;
}

}  // namespace

DecodingSession::DecodingSession(const Cepe& model, const Latents* context, int64_t capacity,
                                 const ContextReading& reading)
    : model_(model),
      context_(context ? *context : Latents{}),
      reading_(reading),
      cache_(make_cache(model.decoder.stack, 1, capacity)) {}

void DecodingSession::choose_form(int64_t tokens) {
  CrossAttentionWork work = cross_attention_work(model_.config.decoder, context_, tokens);
  work.layers = model_.config.num_cross_attn_layers;
  work.kept = context_.cache != nullptr;
  work.steps = cache_.capacity - tokens;
  work.memory_budget = reading_.memory_budget;
  const DeviceRates rates = device_rates(model_.device(), model_.dtype());
  if (reading_.form == CrossAttentionForm::automatic) {
    choice_ = choose_cross_attention(work, rates);
  } else {
    choice_ = {reading_.form, cross_attention_cost(work, rates, reading_.form)};
  }
  if (choice_.form == CrossAttentionForm::cached && !context_.cache) {
    context_.cache = cache_context(model_.decoder.stack, context_);
  }
}

at::Tensor DecodingSession::step(int64_t id) {
  if (!step_) {
    DecodeStepOptions options{
        .form = reading_.form, .sampler = device_sampler_.get(), .exclusive_device = reading_.exclusive_device};
    if (context_.tokens() > 0) options.contexts.push_back({context_, 0, 1});
    step_ = std::make_unique<DecodeStep>(model_, cache_, options);
  }
  step_->place({&id, 1}, {&cache_.length, 1});
  const at::Tensor logits_1V = step_->run();
  ++cache_.length;
  return logits_1V;
}

at::Tensor DecodingSession::read(const std::vector<int64_t>& ids) {
  const at::Tensor ids_BT = at::tensor(ids, at::kLong).unsqueeze(0).to(model_.device());
  return logits(
      model_,
      decode(model_, {.ids_BT = ids_BT, .context = &context_, .cache = &cache_, .form = reading_.form, .last = 1}));
}

at::Tensor DecodingSession::forward(std::span<const TokenId> tokens) {
  const int64_t count = static_cast<int64_t>(tokens.size()), vocabulary = model_.config.decoder.vocab_size;
  require(count > 0, "decoding: no tokens to read");
  require(cache_.length + count <= cache_.capacity,
          "decoding: {} more tokens after {} do not fit in a key-value cache of {}", count, cache_.length,
          cache_.capacity);
  std::vector<int64_t> ids(tokens.begin(), tokens.end());
  for (const int64_t id : ids) {
    require(id >= 0 && id < vocabulary,
            "decoding: token {} is outside the model's vocabulary of {}: the tokenizer does not match the model", id,
            vocabulary);
  }
  if (cache_.length == 0 && context_.tokens() > 0) choose_form(count);
  const bool steps = count == 1 && cache_.length > 0 && step_pays(model_) && can_step(model_, cache_.capacity);
  return steps ? step(ids[0]) : read(ids);
}

std::span<const float> DecodingSession::append(std::span<const TokenId> tokens) {
  const at::NoGradGuard no_gradients;
  require(!device_sampler_, "decoding: append() after sample_with(): expected next()");
  logits_V_ = forward(tokens).flatten().to(at::kCPU, at::kFloat).contiguous();
  return {logits_V_.const_data_ptr<float>(), static_cast<size_t>(logits_V_.numel())};
}

void DecodingSession::sample_with(const SamplerOptions& options, int64_t vocabulary, std::span<const TokenId> seen) {
  require(cache_.length == 0, "decoding: sample_with() after {} tokens were read", cache_.length);
  vocabulary_ = std::min(vocabulary, model_.config.decoder.vocab_size);
  sampler_.reset(), device_sampler_.reset();
  if (DeviceSampler::applies(model_.device())) {
    device_sampler_ = std::make_unique<DeviceSampler>(model_.device(), 1, vocabulary_);
    device_sampler_->set(0, options, seen);
  } else {
    sampler_ = std::make_unique<Sampler>(options);
    sampler_->observe(seen);
  }
}

TokenId DecodingSession::next(std::span<const TokenId> tokens) {
  const at::NoGradGuard no_gradients;
  require(sampler_ || device_sampler_, "decoding: next() before sample_with()");
  if (sampler_) return sampler_->sample(append(tokens).first(static_cast<size_t>(vocabulary_)));
  const int64_t steps_before = step_ ? step_->positions()[0] : -1;
  const at::Tensor logits = forward(tokens);
  const bool stepped = step_ && step_->positions()[0] != steps_before;
  at::Tensor id_1 =
      stepped ? step_->ids() : at::empty({1}, at::TensorOptions().device(model_.device()).dtype(at::kLong));
  if (!stepped) device_sampler_->sample(logits.reshape({1, -1}).contiguous(), id_1);
  const at::Tensor found = at::cat({id_1, device_sampler_->failed_B().to(at::kLong)}).to(at::kCPU);
  require(found[1].item<int64_t>() == 0,
          "sampling: a logit is not a finite number: the weights or the context are damaged");
  return static_cast<TokenId>(found[0].item<int64_t>());
}

const char* stop_reason_name(StopReason reason) {
  switch (reason) {
    case StopReason::end_token: return "end_token";
    case StopReason::stop_string: return "stop_string";
    case StopReason::max_tokens: return "max_tokens";
    case StopReason::window: return "window";
  }
  return "unknown";
}

Generation generate(const GenerateInput& input, const GenerateOptions& options) {
  const int64_t end = room(input, options);
  const bool fills_window = end == decoder_window(input.model.config.decoder);
  const auto is_end = [&](TokenId token) {
    return std::find(options.end_tokens.begin(), options.end_tokens.end(), token) != options.end_tokens.end();
  };
  Generation made;
  TextOutput output(input, options, made);
  const double started = seconds_now();
  DecodingSession session(input.model, input.context, end, options.context);
  // A padded embedding has rows that stand for no token: never choose one.
  session.sample_with(options.sampling, input.tokenizer.vocabulary_size(), input.prompt);
  TokenId token = session.next(input.prompt);
  int64_t chosen = 0;
  while (true) {
    if (++chosen == 1) made.first_token_seconds = seconds_now() - started;
    made.reason = StopReason::end_token;
    if (is_end(token)) break;
    made.tokens.push_back(token);
    made.reason = StopReason::stop_string;
    if (!output.push(token)) break;
    const int64_t count = static_cast<int64_t>(made.tokens.size());
    made.reason = fills_window && count < options.max_tokens ? StopReason::window : StopReason::max_tokens;
    if (static_cast<int64_t>(input.prompt.size()) + count == end) break;
    token = session.next({&token, 1});
  }
  if (made.reason != StopReason::stop_string && !output.finish()) made.reason = StopReason::stop_string;
  made.seconds = seconds_now() - started;
  made.context_choice = session.context_choice();
  if (chosen > 1) made.tokens_per_second = static_cast<double>(chosen - 1) / (made.seconds - made.first_token_seconds);
  return made;
}

}  // namespace cepe
