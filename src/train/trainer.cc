#include "train/trainer.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include <memory>
#include <sstream>

#include "base/error.h"
#include "base/json_text.h"
#include "base/report.h"
#include "train/backward_thread.h"
#include "train/batches.h"
#include "train/ranks/engines.h"
#include "train/ranks/sharded_optimizer.h"
#include "train/run/run_directory.h"
#include "train/run/step_profile.h"
#include "train/stages/open_stage.h"
#include "train/step_log.h"
#include "train/train_checkpoint.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;

constexpr double kDefaultPeakTflops = 790;  // bfloat16 matrix product of 8192^3 on an H200

// The forward pass of a batch begins while the host still launches the backward pass of the one before, where both need
// no more operations than these: some 90 ms of an H200, which the host needs half of to launch SmolLM2's kernels.
// Activations of two such batches are in memory together, some 20 GB each at most; of a large model's batches there is
// one.
constexpr double kSmallBatchFlops = 3.5e13;

// What ranks vote on in each step: whether one must stop, and whether the first has not written a checkpoint for long.
enum Vote : size_t { kStop, kLate, kVotes };
at::ScalarType arithmetic_type(const TrainConfig& config, const at::Device& device) {
  if (config.precision == Precision::automatic) return device.is_cuda() ? at::kBFloat16 : at::kFloat;
  return config.precision == Precision::bfloat16 ? at::kBFloat16 : at::kFloat;
}

std::vector<at::Tensor> trained_tensors(TrainedModel& model) {
  std::vector<at::Tensor> tensors;
  for (const Parameter& parameter : model.parameters()) tensors.push_back(*parameter.value);
  return tensors;
}

// Of a record of a shard or of parts, as text; empty of null.
std::string sha256_of(const nlohmann::json& record) {
  return record.is_null() ? "" : record.at("sha256").get<std::string>();
}

AdamWOptions adamw_options(const TrainConfig& config) {
  return {config.beta1, config.beta2, config.epsilon, config.weight_decay, config.clip};
}

// What a batch costs beside its tokens, by the largest plain sample.
int64_t batch_tokens(const TrainedModel& model, const TrainConfig& config) {
  const int64_t context = config.max_context_tokens(), positions = config.plain_positions();
  const double flops = model.flops({context, context / config.chunk_length, positions, positions});
  return gpu_batch_tokens(flops / static_cast<double>(context + positions));
}

// Where two texts of settings differ, "this one's and that one's line"; empty: nowhere.
std::string first_difference(const std::string& here, const std::string& there) {
  std::istringstream a(here), b(there);
  for (std::string line, other; std::getline(a, line) && std::getline(b, other);) {
    if (line != other) return fmt::format("`{}` and `{}`", line, other);
  }
  return here == there ? "" : "one of them has more";
}

class Trainer {
 public:
  Trainer(const TrainJob& job, Collectives& ranks);

  TrainOutcome run();

 private:
  void check_resumable(const std::string& where, const nlohmann::json& state) const;
  nlohmann::json load_newest(const OptimizerState& place);
  void compare_with_first();
  void check_reads_same(const nlohmann::json& first) const;
  void resume();
  void open_log();
  void describe();
  void train_step(Prefetcher& prefetcher);
  StepLosses backward(const WorkingModel& working, const StepBatches& step);
  bool is_small(const Batch& batch) const;
  StepProfileOptions profile_options() const;
  void end_profile(StepProfile& profile);
  void sum_losses(StepLosses& losses) const;
  bool must_stop() const;
  bool checkpoint_is_late() const;
  void validate();
  void save(bool last);
  void save_state(const OptimizerState& averages);
  nlohmann::json training_record() const;

  const TrainJob& job_;
  Collectives& ranks_;
  const TrainConfig& config_;
  std::optional<RunDirectory> directory_;  // of the first rank
  const double started_;
  const at::ScalarType dtype_;
  const TrainingData data_;
  BatchBuilder builder_;
  const std::unique_ptr<TrainedModel> model_;
  ShardedOptimizer optimizer_;
  nlohmann::json identity_, shards_;
  nlohmann::json last_validation_, last_sample_validation_;
  nlohmann::json parts_;  // parts_record()
  std::vector<std::string> resume_notes_;
  std::optional<StepLog> log_;
  int64_t step_ = 0, saved_step_ = -1, validated_step_ = -1;
  int64_t tokens_ = 0;          // context and decoder, of all steps done
  double earlier_seconds_ = 0;  // of the sittings before this one
  double saved_at_ = 0;         // when the last checkpoint was written, or the run began
};

// Everything that is read is checked before the run's directory is made: a mistaken path leaves nothing behind. A run
// that is there already is locked first, so that a second process does not read a model to be refused. Nothing here
// waits for other ranks, which may have failed.
Trainer::Trainer(const TrainJob& job, Collectives& ranks)
    : job_(job),
      ranks_(ranks),
      config_(job.config),
      directory_(ranks.first() ? std::make_optional<RunDirectory>(job.run) : std::nullopt),
      started_(seconds_now()),
      dtype_(arithmetic_type(config_, job.device)),
      data_(open_training_data(config_)),
      builder_(config_, data_.train, data_.ask, {.rank = {ranks.rank(), ranks.size()}}),
      model_(open_trained_model({config_, data_, job.device, dtype_})),
      optimizer_(trained_tensors(*model_), adamw_options(config_), ranks) {
  require(config_.batch >= ranks.size(), "train.batch: {} samples a step cannot be shared by {} ranks", config_.batch,
          ranks.size());
  if (job.device.is_cuda()) builder_.set_batch_tokens(batch_tokens(*model_, config_));
  identity_ = training_identity(config_);
  if (const std::string base = model_->base_sha256(); !base.empty()) identity_["model.base_sha256"] = base;
  shards_ = shard_record(data_);
  parts_ = parts_record(config_);
  if (directory_) directory_->make();
}

// What the checkpoint says of the run's settings and data must be what it is told now.
void Trainer::check_resumable(const std::string& where, const nlohmann::json& state) const {
  const nlohmann::json& recorded = state["identity"];
  const std::string key = differing_setting(recorded, identity_);
  require(!is_mark_of_draws(key),
          "{}: this run was begun by a version that drew samples otherwise: choose another directory", where);
  const auto shown = [&](const nlohmann::json& identity) {
    return identity.contains(key) ? identity[key].dump() : "not set";
  };
  require(key.empty(),
          "{}: this run was started with {} = {}, now it is {}: resume with the same settings, or choose another "
          "directory",
          where, key, shown(recorded), shown(identity_));
  const nlohmann::json& shards = state["shards"];
  require(shards.size() == shards_.size(), "{}: this run was started with {} token shards, now there are {}", where,
          shards.size(), shards_.size());
  for (size_t i = 0; i < shards.size(); ++i) {
    require(sha256_of(shards[i]) == sha256_of(shards_[i]),
            "{}: this run was started with other tokens in place of {}: shard {} differs", where,
            shards_[i]["path"].get<std::string>(), i);
  }
  // Earlier checkpoints do not say which parts they began with.
  require(!state.contains("parts") || sha256_of(state["parts"]) == sha256_of(parts_),
          "{}: this run was started from other trained parts than {} ({})", where,
          config_.parts.empty() ? config_.encoder : config_.parts,
          config_.parts.empty() ? "model.encoder" : "model.parts");
  const int64_t step = state["step"].get<int64_t>();
  require(step <= config_.steps, "{}: a checkpoint after {} steps, the run has {}", where, step, config_.steps);
}

// On the first rank: weights and averages of the newest whole checkpoint, if there is one. Returns its state, or null.
nlohmann::json Trainer::load_newest(const OptimizerState& place) {
  remove_unfinished_checkpoints(job_.run);
  const auto loaded = load_newest_checkpoint(
      job_.run, {model_->parameters(), place},
      [&](const fs::path& checkpoint, const nlohmann::json& state) { check_resumable(checkpoint.string(), state); });
  if (!loaded) return nullptr;
  resume_notes_ = loaded->notes;
  return loaded->state;
}

// All ranks must have been told the same, and read the same.
void Trainer::compare_with_first() {
  const std::string settings = effective_settings(config_), of_first = text_of_first(ranks_, settings);
  const nlohmann::json here = {{"identity", identity_}, {"shards", shards_}, {"parts", parts_}};
  const nlohmann::json first = nlohmann::json::parse(text_of_first(ranks_, json_text(here)));
  together(ranks_, [&] {
    require(settings == of_first, "rank {} was told other settings than rank 0: {}", ranks_.rank(),
            first_difference(settings, of_first));
    check_reads_same(first);
  });
}

// The paths are the same; on another node something else may be there.
void Trainer::check_reads_same(const nlohmann::json& first) const {
  const auto same = [&](bool as_first, const std::string& what) {
    require(as_first, "rank {} reads another {} than rank 0: all ranks must find the same files", ranks_.rank(), what);
  };
  const std::string key = differing_setting(first["identity"], identity_);
  same(key.empty(), key == "model.base_sha256" ? "base in " + config_.base : key);
  const nlohmann::json& shards = first["shards"];
  require(shards.size() == shards_.size(),
          "rank {} reads {} token shards, rank 0 {}: all ranks must find the same files", ranks_.rank(), shards_.size(),
          shards.size());
  for (size_t i = 0; i < shards.size(); ++i)
    same(sha256_of(shards[i]) == sha256_of(shards_[i]), "token shard " + shards_[i]["path"].get<std::string>());
  same(sha256_of(first["parts"]) == sha256_of(parts_),
       config_.parts.empty() ? "encoder in " + config_.encoder : "directory of parts " + config_.parts);
}

void Trainer::resume() {
  nlohmann::json state;
  const OptimizerState averages = optimizer_.place_for_state();
  if (!ranks_.alone()) compare_with_first();
  together(ranks_, [&] {
    if (ranks_.first()) state = load_newest(averages);
  });
  optimizer_.load(averages);
  state = nlohmann::json::parse(text_of_first(ranks_, json_text(state)));
  if (state.is_null()) return;
  step_ = saved_step_ = state["step"].get<int64_t>();
  tokens_ = state.value("tokens", int64_t{0});
  earlier_seconds_ = state.value("seconds", 0.0);
  last_validation_ = state.value("validation", nlohmann::json());
  last_sample_validation_ = state.value("ask_validation", nlohmann::json());
}

void Trainer::open_log() {
  StepLogOptions options{{}, job_.device, config_.steps, config_.peak_tflops * 1e12};
  if (ranks_.first()) options.file = job_.run / "log.jsonl";
  if (options.peak_flops == 0 && job_.device.is_cuda()) options.peak_flops = kDefaultPeakTflops * 1e12;
  options.peak_flops *= static_cast<double>(ranks_.size());
  log_.emplace(options, step_);
  if (ranks_.first()) write_file(job_.run / "config.toml", effective_settings(config_));
}

void Trainer::describe() {
  std::istringstream settings(effective_settings(config_));
  for (std::string line; std::getline(settings, line);) log_->note(line);
  int64_t trained = 0;
  for (const at::Tensor& tensor : trained_tensors(*model_)) trained += tensor.numel();
  log_->note(fmt::format("{} trained parameters: {}; {} on {}", format_count(static_cast<uint64_t>(trained)),
                         model_->describe(), dtype_ == at::kFloat ? "float32" : "bfloat16", job_.device.str()));
  const auto count = [](int64_t value) { return format_count(static_cast<uint64_t>(value)); };
  if (builder_.sampler()) {
    log_->note(fmt::format("{} documents, {} tokens in {} shards; {} documents hold a whole sample of {} tokens",
                           data_.train.documents.size(), count(data_.train.tokens), data_.train.shards.size(),
                           builder_.sampler()->filtered_documents(), config_.span_tokens()));
  }
  if (!data_.ask.documents.empty()) {
    log_->note(fmt::format("{} samples of data.ask, {} tokens in {} shards: {:.3g} % of the samples of a step",
                           data_.ask.documents.size(), count(data_.ask.tokens), data_.ask.shards.size(),
                           100 * config_.ask_share));
  }
  for (const std::string& key : idle_settings(config_)) {
    log_->note(fmt::format("note: {} does nothing in stage {}{}", key, name_of(config_.stage),
                           config_.only_ask() ? " with data.ask_share = 1" : ""));
  }
  for (const std::string& note : model_->notes()) log_->note("note: " + note);
  for (const std::string& note : notes_on_shards(data_, shards_)) log_->note(note);
  for (const std::string& note : resume_notes_) log_->note(note);
  if (!ranks_.alone()) log_->note(fmt::format("{} ranks share the samples of a step", ranks_.size()));
  if (step_ > 0) log_->note(fmt::format("resumed after step {} of {}", step_, config_.steps));
}

// Of this rank.
bool Trainer::must_stop() const {
  if (job_.stop && job_.stop->load()) return true;
  return config_.max_minutes > 0 && seconds_now() - started_ >= 60 * config_.max_minutes;
}

bool Trainer::checkpoint_is_late() const {
  return config_.checkpoint_minutes > 0 && seconds_now() - saved_at_ >= 60 * config_.checkpoint_minutes;
}

TrainOutcome Trainer::run() {
  resume();
  together(ranks_, [&] {
    open_log();
    describe();
  });
  {
    Prefetcher batches(builder_, {step_, config_.steps}, job_.device.is_cuda());
    StepProfile profile(profile_options());
    log_->restart_clock();
    saved_at_ = seconds_now();
    bool stop = any_rank(ranks_, must_stop());
    while (step_ < config_.steps && !stop) {
      profile.begin(step_);
      train_step(batches);
      end_profile(profile);
      // Several ranks go by what all of them know: the votes of the last step that the host has read.
      const std::vector<float>& votes = log_->votes();
      stop = ranks_.alone() ? must_stop() : !votes.empty() && votes[kStop] > 0;
      const bool late = ranks_.alone() ? checkpoint_is_late() : !votes.empty() && votes[kLate] > 0;
      const bool due = late || (config_.checkpoint_every > 0 && step_ % config_.checkpoint_every == 0);
      if (config_.validate_every > 0 && step_ % config_.validate_every == 0) validate();
      if (due && step_ < config_.steps) save(false);
    }
  }
  const bool finished = step_ >= config_.steps;
  if (finished) validate();
  save(finished);
  return {step_, finished};
}

// Of the first rank, into its directory.
// A profile that cannot be written, on a full disk for one, is told and costs the run nothing: other ranks go on.
void Trainer::end_profile(StepProfile& profile) {
  std::string told;
  try {
    const fs::path trace = profile.end();
    if (trace.empty()) return;
    told = fmt::format("profile {}", trace.string());
  } catch (const Error& error) {
    told = fmt::format("note: no profile: {}", error.what());
  }
  log_->flush();
  log_->note(told);
  log_->restart_clock();
}

StepProfileOptions Trainer::profile_options() const {
  return {job_.run, config_.profile_after, ranks_.first() ? config_.profile_steps : 0, job_.device};
}

bool Trainer::is_small(const Batch& batch) const {
  double flops = 0;
  for (const SampleShape& shape : batch.shapes) flops += model_->flops(shape);
  return job_.device.is_cuda() && flops <= kSmallBatchFlops;
}

// Leaves gradients of this rank's share of the samples. Returns its share of the losses.
StepLosses Trainer::backward(const WorkingModel& working, const StepBatches& step) {
  StepLosses losses;
  BackwardThread thread(job_.device);
  for (const Batch& batch : step.batches) {
    const bool small = is_small(batch);
    if (!small) thread.wait();
    const at::Tensor part = working.loss_sum(batch.to(job_.device)) / step.weight;
    thread.wait();
    if (&batch == &step.batches.back()) optimizer_.expect_last_backward();
    // Samples without context teach the trained parts nothing.
    if (part.requires_grad()) small ? thread.start(part) : part.backward();
    for (at::Tensor* sum : {&losses.all, batch.asked ? &losses.answers : &losses.plain})
      *sum = sum->defined() ? *sum + part.detach() : part.detach();
  }
  thread.wait();
  optimizer_.backward_is_done();
  return losses;
}

// Over ranks, with what each has to say besides.
void Trainer::sum_losses(StepLosses& losses) const {
  if (ranks_.alone()) return;
  const at::TensorOptions like = at::TensorOptions(at::kFloat).device(job_.device);
  const auto scalar = [&](const at::Tensor& loss) {
    return loss.defined() ? loss.to(at::kFloat) : at::zeros({}, like);
  };
  const auto vote = [&](bool yes) { return at::full({}, yes ? 1 : 0, like); };
  const at::Tensor sums = at::stack({scalar(losses.all), scalar(losses.plain), scalar(losses.answers),
                                     vote(must_stop()), vote(ranks_.first() && checkpoint_is_late())});
  ranks_.sum(sums)->wait();
  losses = {sums[0], sums[1], sums[2], sums.narrow(0, 3, kVotes)};
}

void Trainer::train_step(Prefetcher& prefetcher) {
  StepInfo info;
  const std::unique_ptr<WorkingModel> working = model_->working();
  const StepBatches step = prefetcher.next();
  for (const SampleShape& shape : step.shapes) {
    info.tokens += shape.context_tokens + shape.decoder_tokens;
    info.flops += model_->flops(shape);
  }
  StepLosses losses = backward(*working, step);
  sum_losses(losses);
  const double plain_weight = step.weight - step.answers_weight;
  const auto mean = [&](at::Tensor& loss, double weight) {
    loss = loss.defined() && weight > 0 ? loss * (step.weight / weight) : at::Tensor();
  };
  mean(losses.plain, plain_weight);
  mean(losses.answers, step.answers_weight);
  info.learning_rate = learning_rate_at(config_, step_);
  const at::Tensor norm = optimizer_.step(info.learning_rate, losses.all);
  info.step = ++step_;
  tokens_ += info.tokens;
  log_->submit(info, losses, norm);
  require(log_->steps_not_finite() < config_.stop_after_not_finite,
          "step {}: loss or gradient was not finite for {} steps in a row: the learning rate {} is too high for this "
          "model",
          step_, config_.stop_after_not_finite, config_.learning_rate);
}

void Trainer::validate() {
  if (!model_->validates() || validated_step_ == step_) return;
  validated_step_ = step_;
  together(ranks_, [&] {
    log_->flush();
    if (!ranks_.first() || log_->has_validation(step_)) return;
    const double start = seconds_now();
    const ValidationResult result = model_->validate();
    log_->validation(step_, result, seconds_now() - start);
    last_validation_ = record_of_documents(result);
    last_sample_validation_ = record_of_samples(result);
  });
  log_->restart_clock();
}

nlohmann::json Trainer::training_record() const {
  nlohmann::json record = {{"steps", step_},        {"of_steps", config_.steps},
                           {"tokens", tokens_},     {"seconds", earlier_seconds_ + seconds_now() - started_},
                           {"settings", identity_}, {"data", nlohmann::json::array()}};
  for (const nlohmann::json& shard : shards_)
    record["data"].push_back({{"path", shard["path"]}, {"sha256", shard["sha256"]}});
  if (!parts_.is_null()) record["parts"] = parts_;
  if (!last_validation_.is_null()) record["validation"] = last_validation_;
  if (!last_sample_validation_.is_null()) record["ask_validation"] = last_sample_validation_;
  return record;
}

void Trainer::save(bool last) {
  if (saved_step_ != step_) {
    const OptimizerState averages = optimizer_.state();
    together(ranks_, [&] {
      log_->flush();
      if (ranks_.first()) save_state(averages);
    });
    saved_step_ = step_;
    saved_at_ = seconds_now();
    log_->forget_votes();
  }
  together(ranks_, [&] {
    if (!last || !ranks_.first()) return;
    const fs::path directory = job_.run / "final";
    model_->save_final(directory, training_record());
    log_->note(fmt::format("result {}", directory.string()));
  });
  log_->restart_clock();
}

void Trainer::save_state(const OptimizerState& averages) {
  CheckpointOptions options;
  options.save_model = [&](const fs::path& directory) { model_->save(directory, training_record()); };
  options.state = {{"step", step_},
                   {"tokens", tokens_},
                   {"seconds", earlier_seconds_ + seconds_now() - started_},
                   {"identity", identity_},
                   {"shards", shards_},
                   {"parts", parts_},
                   {"config", effective_settings(config_)},
                   {"validation", last_validation_},
                   {"ask_validation", last_sample_validation_}};
  options.keep = config_.keep_checkpoints;
  log_->note(
      fmt::format("checkpoint {}", save_checkpoint(job_.run, {model_->parameters(), averages}, options).string()));
}

}  // namespace

TrainOutcome train(const TrainJob& job) {
  const c10::OptionalDeviceGuard guard(job.device.is_cpu() ? std::nullopt : std::optional(job.device));
  const std::unique_ptr<Collectives> alone = job.ranks ? nullptr : open_collectives({}, {job.device});
  Collectives& ranks = job.ranks ? *job.ranks : *alone;
  std::unique_ptr<Trainer> trainer;
  together(ranks, [&] { trainer = std::make_unique<Trainer>(job, ranks); });
  return trainer->run();
}

}  // namespace cepe
