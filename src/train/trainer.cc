#include "train/trainer.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <sstream>

#include "base/error.h"
#include "base/report.h"
#include "train/batches.h"
#include "train/optimizer.h"
#include "train/stages/open_stage.h"
#include "train/step_log.h"
#include "train/train_checkpoint.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;

constexpr double kDefaultPeakTflops = 790;  // bfloat16 matrix product of 8192^3 on an H200
constexpr int64_t kMaxStepsNotFinite = 20;

// Keeps a second process out of the run's directory; the system lets go of it however the process ends.
class RunLock {
 public:
  explicit RunLock(const fs::path& run)
      : descriptor_(::open((run / ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
    require(descriptor_ >= 0, "{}: cannot write into the directory: {}", run.string(), std::strerror(errno));
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) == 0) return;
    ::close(descriptor_);
    fail("{}: another process is training in this directory", run.string());
  }
  ~RunLock() { ::close(descriptor_); }
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

 private:
  int descriptor_;
};

void make_run_directory(const fs::path& run) {
  std::error_code error;
  fs::create_directories(run, error);
  require(!error && fs::is_directory(run), "{}: cannot create the directory: {}", run.string(), error.message());
}

at::ScalarType arithmetic_type(const TrainConfig& config, const at::Device& device) {
  if (config.precision == Precision::automatic) return device.is_cuda() ? at::kBFloat16 : at::kFloat;
  return config.precision == Precision::bfloat16 ? at::kBFloat16 : at::kFloat;
}

std::vector<at::Tensor> trained_tensors(TrainedModel& model) {
  std::vector<at::Tensor> tensors;
  for (const Parameter& parameter : model.parameters()) tensors.push_back(*parameter.value);
  return tensors;
}

// The lock of a run that was begun; none where there is no run yet.
std::unique_ptr<RunLock> lock_if_begun(const fs::path& run) {
  std::error_code ignored;
  require(!fs::exists(run, ignored) || fs::is_directory(run, ignored),
          "{}: cannot create the directory: there is a file of this name", run.string());
  return fs::exists(run / ".lock", ignored) ? std::make_unique<RunLock>(run) : nullptr;
}

// Of a record of a shard or of parts, as text; empty of null.
std::string sha256_of(const nlohmann::json& record) {
  return record.is_null() ? "" : record.at("sha256").get<std::string>();
}

AdamWOptions adamw_options(const TrainConfig& config) {
  return {config.beta1, config.beta2, config.epsilon, config.weight_decay, config.clip};
}

class Trainer {
 public:
  explicit Trainer(const TrainJob& job);

  TrainOutcome run();

 private:
  void check_resumable(const fs::path& checkpoint, const nlohmann::json& state) const;
  void resume();
  void describe();
  void train_step(Prefetcher& prefetcher);
  bool must_stop() const;
  void validate();
  void save(bool last);
  nlohmann::json training_record() const;

  const TrainJob& job_;
  const TrainConfig& config_;
  std::unique_ptr<RunLock> lock_;
  const double started_;
  const at::ScalarType dtype_;
  const TrainingData data_;
  const BatchBuilder builder_;
  const std::unique_ptr<TrainedModel> model_;
  AdamW optimizer_;
  nlohmann::json identity_, shards_;
  nlohmann::json last_validation_, last_sample_validation_;
  nlohmann::json parts_;  // parts_record()
  std::optional<StepLog> log_;
  int64_t step_ = 0, saved_step_ = -1, validated_step_ = -1;
  int64_t tokens_ = 0;          // context and decoder, of all steps done
  double earlier_seconds_ = 0;  // of the sittings before this one
  double saved_at_ = 0;         // when the last checkpoint was written, or the run began
};

// Everything that is read is checked before the run's directory is made: a mistaken path leaves nothing behind. A run
// that is there already is locked first, so that a second process does not read a model to be refused.
Trainer::Trainer(const TrainJob& job)
    : job_(job),
      config_(job.config),
      lock_(lock_if_begun(job.run)),
      started_(seconds_now()),
      dtype_(arithmetic_type(config_, job.device)),
      data_(open_training_data(config_)),
      builder_(config_, data_.train, data_.ask, job.device.is_cuda() ? kGpuBatchTokens : 0),
      model_(open_trained_model({config_, data_, job.device, dtype_})),
      optimizer_(trained_tensors(*model_), adamw_options(config_)) {
  identity_ = training_identity(config_);
  if (const std::string base = model_->base_sha256(); !base.empty()) identity_["model.base_sha256"] = base;
  shards_ = shard_record(data_);
  parts_ = parts_record(config_);
  make_run_directory(job.run);
  if (!lock_) lock_ = std::make_unique<RunLock>(job.run);
  resume();
}

// What the checkpoint says of the run's settings and data must be what it is told now.
void Trainer::check_resumable(const fs::path& checkpoint, const nlohmann::json& state) const {
  const std::string where = checkpoint.string();
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

void Trainer::resume() {
  remove_unfinished_checkpoints(job_.run);
  const auto checkpoint = newest_checkpoint(job_.run);
  if (!checkpoint) return;
  const nlohmann::json state = read_checkpoint_state(*checkpoint);
  check_resumable(*checkpoint, state);
  load_checkpoint(*checkpoint, {model_->parameters(), optimizer_});
  step_ = saved_step_ = state["step"].get<int64_t>();
  tokens_ = state.value("tokens", int64_t{0});
  earlier_seconds_ = state.value("seconds", 0.0);
  last_validation_ = state.value("validation", nlohmann::json());
  last_sample_validation_ = state.value("ask_validation", nlohmann::json());
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
  if (step_ > 0) log_->note(fmt::format("resumed after step {} of {}", step_, config_.steps));
}

bool Trainer::must_stop() const {
  if (job_.stop && job_.stop->load()) return true;
  return config_.max_minutes > 0 && seconds_now() - started_ >= 60 * config_.max_minutes;
}

TrainOutcome Trainer::run() {
  StepLogOptions options{job_.run / "log.jsonl", job_.device, config_.steps, config_.peak_tflops * 1e12};
  if (options.peak_flops == 0 && job_.device.is_cuda()) options.peak_flops = kDefaultPeakTflops * 1e12;
  log_.emplace(options, step_);
  write_file(job_.run / "config.toml", effective_settings(config_));
  describe();
  {
    Prefetcher batches(builder_, {step_, config_.steps}, job_.device.is_cuda());
    log_->restart_clock();
    saved_at_ = seconds_now();
    while (step_ < config_.steps && !must_stop()) {
      train_step(batches);
      const bool due = (config_.checkpoint_every > 0 && step_ % config_.checkpoint_every == 0) ||
                       (config_.checkpoint_minutes > 0 && seconds_now() - saved_at_ >= 60 * config_.checkpoint_minutes);
      if (config_.validate_every > 0 && step_ % config_.validate_every == 0) validate();
      if (due && step_ < config_.steps) save(false);
    }
  }
  log_->flush();
  const bool finished = step_ >= config_.steps;
  if (finished) validate();
  save(finished);
  return {step_, finished};
}

void Trainer::train_step(Prefetcher& prefetcher) {
  StepInfo info;
  StepLosses losses;
  const std::unique_ptr<WorkingModel> working = model_->working();
  const std::vector<Batch> batches = prefetcher.next();
  double weight = 0, answers = 0;  // sums of weights: of the step, and of its samples of data.ask
  for (const Batch& batch : batches) {
    weight += batch.weight;
    answers += batch.asked ? batch.weight : 0;
  }
  for (const Batch& batch : batches) {
    info.tokens += batch.tokens();
    for (const SampleShape& shape : batch.shapes) info.flops += model_->flops(shape);
    const at::Tensor part = working->loss_sum(batch.to(job_.device)) / weight;
    if (part.requires_grad()) part.backward();  // samples without context teach the trained parts nothing
    for (at::Tensor* sum : {&losses.all, batch.asked ? &losses.answers : &losses.plain})
      *sum = sum->defined() ? *sum + part.detach() : part.detach();
  }
  if (losses.plain.defined()) losses.plain = losses.plain * (weight / (weight - answers));
  if (losses.answers.defined()) losses.answers = losses.answers * (weight / answers);
  info.learning_rate = learning_rate_at(config_, step_);
  const at::Tensor norm = optimizer_.step(info.learning_rate);
  info.step = ++step_;
  tokens_ += info.tokens;
  log_->submit(info, losses, norm);
  require(log_->steps_without_finite_gradient() < kMaxStepsNotFinite,
          "step {}: the gradient was not finite for {} steps in a row: the learning rate {} is too high for this model",
          step_, kMaxStepsNotFinite, config_.learning_rate);
}

void Trainer::validate() {
  if (!model_->validates() || validated_step_ == step_) return;
  log_->flush();
  const double start = seconds_now();
  const ValidationResult result = model_->validate();
  log_->validation(step_, result, seconds_now() - start);
  last_validation_ = record_of_documents(result);
  last_sample_validation_ = record_of_samples(result);
  validated_step_ = step_;
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
  log_->flush();
  if (saved_step_ != step_) {
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
        fmt::format("checkpoint {}", save_checkpoint(job_.run, {model_->parameters(), optimizer_}, options).string()));
    saved_step_ = step_;
    saved_at_ = seconds_now();
  }
  if (last) {
    const fs::path directory = job_.run / "final";
    model_->save_final(directory, training_record());
    log_->note(fmt::format("result {}", directory.string()));
  }
  log_->restart_clock();
}

}  // namespace

TrainOutcome train(const TrainJob& job) {
  const c10::OptionalDeviceGuard guard(job.device.is_cpu() ? std::nullopt : std::optional(job.device));
  Trainer trainer(job);
  return trainer.run();
}

}  // namespace cepe
