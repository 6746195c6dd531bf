#include "generate/engine.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <exception>

#include "base/error.h"
#include "base/report.h"
#include "generate/sequence.h"
#include "generate/slots.h"
#include "ops/step/step_ops.h"

namespace cepe {
namespace {

EngineOptions checked(const Cepe& model, EngineOptions options) {
  const int64_t window = decoder_window(model.config.decoder);
  require(options.sequences > 0, "engine: expected 1 or more sequences, found {}", options.sequences);
  require(options.capacity >= 0 && options.capacity <= window,
          "engine: a capacity of {} tokens a sequence, the decoder's window holds {}", options.capacity, window);
  require(options.prompt_tokens_a_step > 0, "engine: expected 1 or more tokens of prompts a step, found {}",
          options.prompt_tokens_a_step);
  const ContextReading& reading = options.reading;
  require(reading.read_share > 0 && reading.read_share <= 1 && reading.read_again > 0,
          "engine: a share of {} of the context's attention, chosen anew after {} tokens", reading.read_share,
          reading.read_again);
  if (options.capacity == 0) options.capacity = window;
  if (!model.device().is_cpu()) options.reading.read_share = 1;
  return options;
}

// Whether several sequences are written by decoding steps. Without a kernel of its own a step's attention goes over a
// whole slot, however few tokens it holds. Of SmolLM2-135M in float32 that moves some 140 MB a sequence at 1,024
// tokens; reading the weights once for all saves 540 MB for each sequence but the first.
bool steps_serve(const Cepe& model, int64_t capacity) {
  constexpr int64_t kMostWithoutKernel = 1024;
  const StackConfig& config = model.config.decoder;
  if (!can_step(model, capacity) || (config.sliding_window > 0 && capacity > config.sliding_window)) return false;
  return capacity <= kMostWithoutKernel || step_attention_is_fused(model.device(), model.dtype(), config.head_dim);
}

bool has_tokens(const std::shared_ptr<const Context>& context) { return context && context->tokens() > 0; }

std::string message_of(const std::exception_ptr& thrown) {
  try {
    std::rethrow_exception(thrown);
  } catch (const std::exception& error) {
    return error.what();
  } catch (...) {
    return "an exception without a message";
  }
}

// The next token of a sequence's answer, which ends where it fails.
void take_token(Sequence& sequence, const TokenChoice& choice, std::optional<TokenLogProbabilities> probabilities) {
  sequence.next = choice.token;
  if (!choice.error.empty()) return sequence.answer.fail(choice.error);
  try {
    sequence.answer.push(choice.token, std::move(probabilities));
  } catch (...) {
    sequence.answer.fail(message_of(std::current_exception()));
  }
}

}  // namespace

int64_t room_for(const Cepe& model, int64_t prompt_tokens, int64_t max_tokens, int64_t capacity) {
  const int64_t window = decoder_window(model.config.decoder);
  require(max_tokens > 0, "max-tokens: expected 1 or more, found {}", max_tokens);
  require(prompt_tokens > 0, "the prompt has no tokens");
  require(prompt_tokens < window,
          "the prompt has {} tokens, which leaves no room for an answer in the decoder's window of {}: shorten it, "
          "or give the longer part as context",
          prompt_tokens, window);
  require(prompt_tokens < capacity,
          "the prompt has {} tokens, which leaves no room for an answer in the {} that the engine holds of a sequence",
          prompt_tokens, capacity);
  return max_tokens < capacity - prompt_tokens ? prompt_tokens + max_tokens : capacity;
}

Engine::Engine(const Cepe& model, const Tokenizer& tokenizer, const EngineOptions& options)
    : model_(model),
      tokenizer_(tokenizer),
      options_(checked(model, options)),
      // A padded embedding has rows that stand for no token: never choose one.
      vocabulary_(std::min(tokenizer.vocabulary_size(), model.config.decoder.vocab_size)),
      steps_(steps_serve(model, options_.capacity)),
      steps_pay_alone_(steps_ && step_pays(model)),
      cache_(make_cache(model.decoder.stack, options_.sequences, options_.capacity)),
      samplers_(model.device(), options_.sequences, vocabulary_),
      contexts_(model, options_.reading, options_.sequences) {}

Engine::~Engine() = default;

void Engine::check(const Request& request) const {
  const int64_t vocabulary = model_.config.decoder.vocab_size;
  for (const TokenId token : request.prompt) {
    require(token >= 0 && token < vocabulary,
            "decoding: token {} is outside the model's vocabulary of {}: the tokenizer does not match the model", token,
            vocabulary);
  }
  check_sampler_options(request.sampling);
  require(request.log_probabilities >= -1 && request.log_probabilities <= vocabulary_,
          "log-probabilities: expected those of -1 (none) to {} tokens, found {}", vocabulary_,
          request.log_probabilities);
  if (has_tokens(request.context)) check_context(request);
}

void Engine::check_context(const Request& request) const {
  const at::Tensor& states = request.context->latents.states_BSE;
  const auto& layers = model_.decoder.stack.layers;
  const auto reads = std::find_if(layers.begin(), layers.end(), [](const Layer& l) { return l.cross_attention; });
  require(reads != layers.end(), "a context of {} tokens: this model has no cross-attention to read it with",
          states.size(1));
  const int64_t width = reads->cross_attention->k.weight.size(1);
  require(states.size(0) == 1 && states.size(2) == width,
          "a context of {} x {} states of width {}, expected 1 x S of {}", states.size(0), states.size(1),
          states.size(2), width);
  const bool known_type = states.scalar_type() == model_.dtype() || request.context->latents.scales_BS.defined();
  require(states.device() == model_.device() && known_type, "a context of {} on {} for a model of {} on {}",
          c10::toString(states.scalar_type()), states.device().str(), c10::toString(model_.dtype()),
          model_.device().str());
}

SequenceId Engine::submit(Request request) {
  const int64_t prompt = static_cast<int64_t>(request.prompt.size());
  const int64_t end = room_for(model_, prompt, request.max_tokens, options_.capacity);
  check(request);
  auto sequence = std::make_unique<Sequence>(std::move(request), tokenizer_, end - prompt);
  sequence->submitted = seconds_now();
  const std::lock_guard lock(mutex_);
  const SequenceId id = sequence->id = ++last_id_;
  arrived_.push_back(std::move(sequence));
  return id;
}

void Engine::cancel(SequenceId id) {
  const std::lock_guard lock(mutex_);
  if (id > 0 && id <= last_id_) cancelled_.insert(id);
}

EngineCounts Engine::counts() const {
  const std::lock_guard lock(mutex_);
  EngineCounts counts = counts_;
  counts.waiting += static_cast<int64_t>(arrived_.size());
  return counts;
}

void Engine::publish() {
  const int64_t contexts = contexts_.count(), kept_bytes = contexts_.kept_bytes();
  const std::lock_guard lock(mutex_);
  counts_.waiting = static_cast<int64_t>(waiting_.size());
  counts_.reading = reading_ ? 1 : 0;
  counts_.writing = static_cast<int64_t>(writing_.size());
  counts_.contexts = contexts, counts_.kept_bytes = kept_bytes;
}

bool Engine::step() {
  const at::NoGradGuard no_gradients;
  bool worked = false;
  try {
    worked = take_inbox();
    worked = read_prompts() || worked;
    worked = write_tokens() || worked;
  } catch (...) {
    fail_all(message_of(std::current_exception()));
    throw;
  }
  publish();
  call_on_end();
  return worked;
}

bool Engine::take_inbox() {
  std::set<SequenceId> cancelled;
  {
    const std::lock_guard lock(mutex_);
    for (Owned& sequence : arrived_) waiting_.push_back(std::move(sequence));
    arrived_.clear();
    cancelled.swap(cancelled_);
  }
  return !cancelled.empty() && drop(cancelled);
}

bool Engine::drop(const std::set<SequenceId>& cancelled) {
  const auto is_cancelled = [&](const Owned& sequence) {
    if (!sequence || !cancelled.contains(sequence->id)) return false;
    sequence->answer.cancel();
    return true;
  };
  const size_t before = ended_.size();
  // Those that wait first: nothing of the device's can fail there, and no cancel is lost by it.
  for (Owned& sequence : waiting_) {
    if (is_cancelled(sequence)) end(std::move(sequence));
  }
  std::erase(waiting_, nullptr);
  if (is_cancelled(reading_)) end(std::move(reading_));
  for (int64_t place = static_cast<int64_t>(writing_.size()) - 1; place >= 0; --place) {
    if (is_cancelled(writing_[place])) leave(place);
  }
  return ended_.size() > before;
}

bool Engine::read_prompts() {
  bool read = false;
  const size_t ended = ended_.size();
  for (int64_t most = options_.prompt_tokens_a_step; most > 0 && start_reading(); read = true) most -= read_piece(most);
  return read || ended_.size() > ended;
}

// Whether there is a prompt to be read.
bool Engine::start_reading() {
  const int64_t place = static_cast<int64_t>(writing_.size());
  while (!reading_ && !waiting_.empty() && place < options_.sequences) {
    Owned sequence = std::move(waiting_.front());
    waiting_.pop_front();
    sequence->slot = place;
    sequence->begun = seconds_now();
    sequence->times.waited_seconds = sequence->begun - sequence->submitted;
    if (take_context(*sequence)) {
      reading_ = std::move(sequence);
    } else {
      end(std::move(sequence));
    }
  }
  return reading_ != nullptr;
}

// False where there is too little memory for what is kept of the context: this sequence alone has failed by it.
bool Engine::take_context(Sequence& sequence) {
  if (!has_tokens(sequence.request.context)) return true;
  try {
    const ContextUse use{sequence.prompt_tokens(), sequence.most_tokens()};
    sequence.context = contexts_.take(sequence.request.context, use, sequence.times.context_choice);
    const ContextReading& reading = options_.reading;
    if (reading.read_share < 1 && sequence.times.context_choice.form == CrossAttentionForm::cached)
      sequence.sparse.emplace(sequence.context->latents, reading.read_share, reading.read_again);
    return true;
  } catch (...) {
    sequence.answer.fail(message_of(std::current_exception()));
    return false;
  }
}

// Reads at most so many tokens of the prompt that is being read -> how many. After the last one the sequence writes.
int64_t Engine::read_piece(int64_t most) {
  Sequence& sequence = *reading_;
  const int64_t all = sequence.prompt_tokens();
  // Dynamic rotary frequencies follow from the length that is read at once.
  const int64_t count = can_step(model_, all) ? std::min(most, all - sequence.length) : all;
  const std::span<const TokenId> prompt(sequence.request.prompt);
  const at::Tensor hidden = decode_tokens(
      sequence, sequence.slot, prompt.subspan(static_cast<size_t>(sequence.length), static_cast<size_t>(count)));
  sequence.length += count;
  {
    const std::lock_guard lock(mutex_);
    counts_.prompt_tokens += count;
  }
  if (sequence.length < all) return count;
  // Sequences that have ended meanwhile left slots before it.
  const int64_t place = static_cast<int64_t>(writing_.size());
  move_slot(cache_, sequence.slot, place, sequence.length);
  samplers_.set(place, sequence.request.sampling, prompt);
  writing_.push_back(std::move(reading_));
  choose(place, logits(model_, hidden).reshape({1, -1}));
  return count;
}

// -> the last token's hidden state (1, 1, D); the tokens are appended to the slot. A written token reads what sparse
// reading has chosen of the context, the prompt all.
at::Tensor Engine::decode_tokens(Sequence& sequence, int64_t slot, std::span<const TokenId> tokens) const {
  const std::vector<int64_t> ids(tokens.begin(), tokens.end());
  const Latents* context = sequence.context ? &sequence.context->latents : nullptr;
  if (sequence.sparse && sequence.chosen > 0) context = &sequence.sparse->next();
  std::vector<at::Tensor> queries;
  KeyValueCache part = slot_of(cache_, slot, sequence.length);
  const at::Tensor hidden = decode(model_, {.ids_BT = at::tensor(ids, at::kLong).unsqueeze(0).to(model_.device()),
                                            .context = context,
                                            .cache = &part,
                                            .form = options_.reading.form,
                                            .last = 1,
                                            .context_queries = sequence.sparse ? &queries : nullptr});
  if (sequence.sparse) sequence.sparse->asked(queries, 0);
  return hidden;
}

// Whether the next tokens are written by a decoding step. It reads all contexts in one form, and chosen parts are read
// in the cached one alone: where a context beside them is not kept, each sequence decodes its own token.
bool Engine::steps_now() const {
  if (!steps_ || (writing_.size() == 1 && !steps_pay_alone_)) return false;
  const auto sparse = [](const Owned& sequence) { return sequence->sparse.has_value(); };
  const auto kept = [](const Owned& sequence) { return !sequence->context || sequence->context->latents.cache; };
  return std::none_of(writing_.begin(), writing_.end(), sparse) || std::all_of(writing_.begin(), writing_.end(), kept);
}

bool Engine::write_tokens() {
  if (writing_.empty()) return false;
  if (steps_now()) {
    write_by_step();
    return true;
  }
  // From the last one: where one leaves, those behind it have written.
  for (int64_t place = static_cast<int64_t>(writing_.size()) - 1; place >= 0; --place) {
    Sequence& sequence = *writing_[place];
    const at::Tensor hidden = decode_tokens(sequence, place, {&sequence.next, 1});
    ++sequence.length;
    choose(place, logits(model_, hidden).reshape({1, -1}));
  }
  return true;
}

void Engine::write_by_step() {
  if (!buckets_) {
    const DecodeStepOptions options{.form = options_.reading.form,
                                    .sampler = samplers_.on_device(),
                                    .exclusive_device = options_.reading.exclusive_device,
                                    .context_queries = options_.reading.read_share < 1 ? &step_queries_ : nullptr};
    buckets_ = std::make_unique<StepBuckets>(model_, cache_, options);
  }
  std::vector<int64_t> ids, positions;
  for (const Owned& sequence : writing_) {
    ids.push_back(sequence->next);
    positions.push_back(sequence->length);
  }
  PlacedBatch batch{ids, positions, step_contexts()};
  if (reading_) batch.spared_slot = reading_->slot, batch.spared_length = reading_->length;
  DecodeStep& step = buckets_->place(batch);
  const int64_t count = static_cast<int64_t>(writing_.size());
  const at::Tensor logits_NV = step.run().narrow(0, 0, count);
  for (int64_t place = 0; place < count; ++place) {
    Sequence& sequence = *writing_[place];
    ++sequence.length;
    if (sequence.sparse && sequence.sparse->due()) sequence.sparse->asked(step_queries_, place);
  }
  choose(0, logits_NV, step.ids().narrow(0, 0, count));
}

// What the next tokens read. Sequences side by side that read the same context are one range, those that read parts of
// it one each.
std::vector<StepContext> Engine::step_contexts() {
  std::vector<StepContext> ranges;
  const ContextAtWork* before = nullptr;
  for (size_t place = 0; place < writing_.size(); ++place) {
    const ContextAtWork* context = writing_[place]->context.get();
    if (writing_[place]->sparse) {
      ranges.push_back({writing_[place]->sparse->next(), static_cast<int64_t>(place), 1});
    } else if (context && context == before) {
      ++ranges.back().count;
    } else if (context) {
      ranges.push_back({context->latents, static_cast<int64_t>(place), 1});
    }
    before = writing_[place]->sparse ? nullptr : context;
  }
  return ranges;
}

// Chooses the next tokens of the sequences in the slots from `first` on; those that end leave.
void Engine::choose(int64_t first, const at::Tensor& logits_NV, const at::Tensor& stepped_N) {
  const std::vector<TokenChoice> choices = samplers_.choose(logits_NV, first, stepped_N);
  const int64_t count = static_cast<int64_t>(choices.size());
  std::vector<LogProbabilityRow> rows;
  for (int64_t i = count - 1; i >= 0; --i) {
    const int64_t best = writing_[first + i]->request.log_probabilities;
    if (best >= 0 && choices[i].error.empty()) rows.push_back({i, choices[i].token, best});
  }
  std::vector<TokenLogProbabilities> probabilities = log_probabilities(logits_NV, rows, vocabulary_);
  {
    const std::lock_guard lock(mutex_);
    counts_.tokens += count;
  }
  const double now = seconds_now();
  auto found = probabilities.begin();
  // From the last one: the sequence that takes the place of one that leaves has been dealt with.
  for (int64_t i = count - 1; i >= 0; --i) {
    Sequence& sequence = *writing_[first + i];
    if (++sequence.chosen == 1) sequence.times.first_token_seconds = now - sequence.begun;
    const bool listed = sequence.request.log_probabilities >= 0 && choices[i].error.empty();
    take_token(sequence, choices[i], listed ? std::optional(std::move(*found++)) : std::nullopt);
    if (sequence.answer.ended()) leave(first + i);
  }
}

// The sequence in a slot has ended; the last one takes the slot.
void Engine::leave(int64_t place) {
  end(std::move(writing_[place]));
  const int64_t last = static_cast<int64_t>(writing_.size()) - 1;
  if (place != last) {
    move_slot(cache_, last, place, writing_[last]->length);
    samplers_.move(last, place);
    writing_[place] = std::move(writing_[last]);
  }
  writing_.pop_back();
}

void Engine::end(Owned sequence) {
  Generation& times = sequence->times;
  if (sequence->sparse) times.read_share = sequence->sparse->mean_share();
  if (sequence->begun > 0) times.seconds = seconds_now() - sequence->begun;
  if (sequence->chosen > 1) {
    times.tokens_per_second = static_cast<double>(sequence->chosen - 1) / (times.seconds - times.first_token_seconds);
  }
  sequence->sparse.reset();
  const std::shared_ptr<ContextAtWork> context = std::move(sequence->context);
  sequence->request.context.reset();
  ended_.push_back(std::move(sequence));
  const bool last_reader = context && context.use_count() == 1;
  if (last_reader && buckets_) buckets_->forget(context->latents);
}

void Engine::fail_all(const std::string& error) {
  buckets_.reset();  // a step that failed half-way is made anew
  if (reading_) writing_.push_back(std::move(reading_));
  for (Owned& sequence : writing_) {
    if (!sequence) continue;
    sequence->answer.fail(error);
    end(std::move(sequence));
  }
  writing_.clear();
  publish();
  try {
    call_on_end();
  } catch (...) {  // the device's error is the one that tells
  }
}

void Engine::call_on_end() {
  std::vector<Owned> ended;
  ended.swap(ended_);
  std::exception_ptr thrown;
  for (const Owned& sequence : ended) {
    if (!sequence->request.on_end) continue;
    static_cast<AnswerResult&>(sequence->times) = sequence->answer.result();
    try {
      sequence->request.on_end(sequence->times);
    } catch (...) {
      if (!thrown) thrown = std::current_exception();
    }
  }
  if (thrown) std::rethrow_exception(thrown);
}

}  // namespace cepe
