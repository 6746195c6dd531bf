#include "train/trainer.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "base/error.h"
#include "base/report.h"
#include "train/batches.h"
#include "train/optimizer.h"
#include "train/step_log.h"
#include "train/throughput.h"
#include "train/train_checkpoint.h"
#include "train/training_inputs.h"
#include "train/validation.h"

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
  if (config.precision == "auto") return device.is_cuda() ? at::kBFloat16 : at::kFloat;
  return config.precision == "bfloat16" ? at::kBFloat16 : at::kFloat;
}

std::vector<at::Tensor> trained_tensors(Cepe& model) {
  std::vector<at::Tensor> tensors;
  for (const Parameter& parameter : trainable_parameters(model)) tensors.push_back(*parameter.value);
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
  Cepe& model() { return opened_.model; }
  bool published() const { return opened_.kind == "published CEPE"; }
  void check_resumable(const fs::path& checkpoint, const nlohmann::json& state) const;
  void resume();
  void describe();
  void warm_rotary_tables();
  void train_step(Prefetcher& batches);
  at::Tensor micro_step(const Cepe& working, const Batch& batch);
  bool must_stop() const;
  void validate();
  void save(bool last);
  void save_final();
  nlohmann::json training_record() const;
  SaveOptions save_options() const;

  const TrainJob& job_;
  const TrainConfig& config_;
  std::unique_ptr<RunLock> lock_;
  const double started_;
  const at::ScalarType dtype_;
  Corpus corpus_, validation_corpus_;
  BatchBuilder builder_;
  OpenedModel opened_;
  AdamW optimizer_;
  std::optional<Validation> validation_;
  nlohmann::json identity_, shards_, last_validation_;
  nlohmann::json parts_;  // parts_record()
  std::optional<StepLog> log_;
  int64_t step_ = 0, saved_step_ = -1, validated_step_ = -1;
  int64_t tokens_ = 0;          // context and decoder, of all steps done
  double earlier_seconds_ = 0;  // of the sittings before this one
};

// Everything that is read is checked before the run's directory is made: a mistaken path leaves nothing behind. A run
// that is there already is locked first, so that a second process does not read a model to be refused.
Trainer::Trainer(const TrainJob& job)
    : job_(job),
      config_(job.config),
      lock_(lock_if_begun(job.run)),
      started_(seconds_now()),
      dtype_(arithmetic_type(config_, job.device)),
      corpus_(open_corpus(config_.train)),
      builder_(config_, corpus_),
      opened_(open_for_training(config_, job.device, dtype_)),
      optimizer_(trained_tensors(opened_.model), adamw_options(config_)) {
  check_corpus(corpus_, opened_);
  if (!config_.validation.empty()) {
    validation_corpus_ = open_corpus(config_.validation);
    check_corpus(validation_corpus_, opened_);
    validation_.emplace(config_, validation_corpus_);
  }
  require(!published() || config_.weights != "int8",
          "run.weights int8: the base {} is a published CEPE model, whose layout has no int8 weights", config_.base);
  identity_ = training_identity(config_);
  identity_["model.base_sha256"] = opened_.base_sha256;
  shards_ = shard_record(corpus_);
  parts_ = parts_record(config_);
  make_run_directory(job.run);
  if (!lock_) lock_ = std::make_unique<RunLock>(job.run);
  resume();
}

// What the checkpoint says of the run's settings and data must be what it is told now.
void Trainer::check_resumable(const fs::path& checkpoint, const nlohmann::json& state) const {
  const std::string where = checkpoint.string();
  const nlohmann::json& recorded = state["identity"];
  for (const auto& [key, value] : identity_.items()) {
    const nlohmann::json before = recorded.value(key, nlohmann::json());
    require(before == value,
            "{}: this run was started with {} = {}, now it is {}: resume with the same settings, or choose another "
            "directory",
            where, key, before.dump(), value.dump());
  }
  const nlohmann::json& shards = state["shards"];
  require(shards.size() == shards_.size(), "{}: this run was started with {} token shards, now there are {}", where,
          shards.size(), shards_.size());
  for (size_t i = 0; i < shards.size(); ++i) {
    require(sha256_of(shards[i]) == sha256_of(shards_[i]),
            "{}: this run was started with other tokens in place of {}: shard {} differs", where,
            corpus_.shards[i].path().string(), i);
  }
  // Earlier checkpoints do not say which parts they began with.
  require(!state.contains("parts") || sha256_of(state["parts"]) == sha256_of(parts_),
          "{}: this run was started from other trained parts than {} (model.parts)", where, config_.parts);
  const int64_t step = state["step"].get<int64_t>();
  require(step <= config_.steps, "{}: a checkpoint after {} steps, the run has {}", where, step, config_.steps);
}

void Trainer::resume() {
  remove_unfinished_checkpoints(job_.run);
  const auto checkpoint = newest_checkpoint(job_.run);
  if (!checkpoint) return;
  const nlohmann::json state = read_checkpoint_state(*checkpoint);
  check_resumable(*checkpoint, state);
  load_checkpoint(*checkpoint, {model(), optimizer_});
  step_ = saved_step_ = state["step"].get<int64_t>();
  tokens_ = state.value("tokens", int64_t{0});
  earlier_seconds_ = state.value("seconds", 0.0);
  last_validation_ = state.value("validation", nlohmann::json());
}

void Trainer::describe() {
  int64_t trained = 0;
  for (const at::Tensor& tensor : trained_tensors(model())) trained += tensor.numel();
  log_->note(fmt::format(
      "{} with {} trained parameters: {} encoder layers, cross-attention in the last {} decoder layers; {} on {}",
      opened_.kind, format_count(static_cast<uint64_t>(trained)), model().config.encoder->num_layers,
      model().config.num_cross_attn_layers, dtype_ == at::kFloat ? "float32" : "bfloat16", job_.device.str()));
  log_->note(fmt::format("{} documents, {} tokens in {} shards; {} documents hold a whole sample of {} tokens",
                         corpus_.documents.size(), format_count(static_cast<uint64_t>(corpus_.tokens)),
                         corpus_.shards.size(), builder_.sampler().filtered_documents(), config_.span_tokens()));
  for (const std::string& note : opened_.notes) log_->note("note: " + note);
  for (const std::string& note : notes_on_shards(corpus_, shards_, validation_corpus_)) log_->note(note);
  if (step_ > 0) log_->note(fmt::format("resumed after step {} of {}", step_, config_.steps));
}

// Tables are computed on the host; made here once, the copies that cast() makes share them and no step waits for one.
void Trainer::warm_rotary_tables() {
  const at::Tensor like = at::empty({1}, at::TensorOptions(dtype_).device(job_.device));
  Stack& decoder = model().decoder.stack;
  decoder.rotary.table(decoder.config, config_.decoder_tokens, like);
  Stack& encoder = model().encoder->stack;
  encoder.rotary.table(encoder.config, config_.chunk_length, like);
}

bool Trainer::must_stop() const {
  if (job_.stop && job_.stop->load()) return true;
  return config_.max_minutes > 0 && seconds_now() - started_ >= 60 * config_.max_minutes;
}

TrainOutcome Trainer::run() {
  StepLogOptions options{job_.run / "log.jsonl", job_.device, config_.steps, config_.peak_tflops * 1e12};
  if (options.peak_flops == 0 && job_.device.is_cuda()) options.peak_flops = kDefaultPeakTflops * 1e12;
  log_.emplace(options, step_);
  write_file(job_.run / "config.toml", job_.config_toml);
  describe();
  warm_rotary_tables();
  {
    Prefetcher batches(builder_, {step_, config_.steps, config_.batch / config_.micro_batch}, job_.device.is_cuda());
    log_->restart_clock();
    while (step_ < config_.steps && !must_stop()) {
      train_step(batches);
      const bool due = config_.checkpoint_every > 0 && step_ % config_.checkpoint_every == 0;
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

// Loss and gradients of a part of the step's batch; working: the model cast to the arithmetic's type.
at::Tensor Trainer::micro_step(const Cepe& working, const Batch& batch) {
  const int64_t B = batch.decoder_BT1.size(0), T = batch.decoder_BT1.size(1) - 1;
  const Latents latents = encode(working, {batch.ids_BML, batch.mask_BML});
  DecodeInput input;
  input.ids_BT = batch.decoder_BT1.narrow(1, 0, T);
  input.context = &latents;
  const at::Tensor hidden = decode(working, input);
  const at::Tensor labels = batch.decoder_BT1.narrow(1, 1, T).reshape(-1);
  const at::Tensor sum = linear_cross_entropy_sum(hidden.reshape({B * T, -1}), working.decoder.lm_head, labels);
  const at::Tensor loss = sum / static_cast<double>(config_.batch * T);
  loss.backward();
  return loss.detach();
}

void Trainer::train_step(Prefetcher& batches) {
  StepInfo info;
  at::Tensor loss;
  const Cepe working = cast(model(), dtype_);  // all micro-batches of the step have the same weights
  for (int64_t micro = 0; micro < config_.batch / config_.micro_batch; ++micro) {
    const Batch batch = batches.next().to(job_.device);
    const int64_t samples = batch.ids_BML.size(0), chunks = batch.ids_BML.size(1);
    info.tokens += samples * (chunks * config_.chunk_length + config_.decoder_tokens);
    info.flops += static_cast<double>(samples) *
                  training_flops(model().config, {chunks, config_.chunk_length, config_.decoder_tokens});
    const at::Tensor part = micro_step(working, batch);
    loss = loss.defined() ? loss + part : part;
  }
  info.learning_rate = learning_rate_at(config_, step_);
  const at::Tensor norm = optimizer_.step(info.learning_rate);
  info.step = ++step_;
  tokens_ += info.tokens;
  log_->submit(info, loss, norm);
  require(log_->steps_without_finite_gradient() < kMaxStepsNotFinite,
          "step {}: the gradient was not finite for {} steps in a row: the learning rate {} is too high for this model",
          step_, kMaxStepsNotFinite, config_.learning_rate);
}

void Trainer::validate() {
  if (!validation_ || validated_step_ == step_) return;
  log_->flush();
  const double start = seconds_now();
  const at::NoGradGuard no_grad;
  const std::vector<ValidationRow> rows = validation_->run(cast(model(), dtype_));
  log_->validation(step_, rows, seconds_now() - start);
  last_validation_ = nlohmann::json::object();
  for (const ValidationRow& row : rows) {
    last_validation_[row.domain] = {{"samples", row.samples}, {"loss_context", row.own}, {"loss_no_context", row.none}};
    if (row.other) last_validation_[row.domain]["reading_gain"] = *row.reading_gain();
  }
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
  return record;
}

SaveOptions Trainer::save_options() const {
  SaveOptions options;
  const fs::path base = fs::path(*opened_.base_path).lexically_normal();
  const fs::path leaf = base.has_filename() ? base.filename() : base.parent_path().filename();
  options.base_name = config_.base_name.empty() ? leaf.string() : config_.base_name;
  options.base_sha256 = opened_.base_sha256;
  options.training = training_record();
  return options;
}

void Trainer::save(bool last) {
  log_->flush();
  if (saved_step_ != step_) {
    CheckpointOptions options;
    options.save = save_options();
    options.state = {{"step", step_},
                     {"tokens", tokens_},
                     {"seconds", earlier_seconds_ + seconds_now() - started_},
                     {"identity", identity_},
                     {"shards", shards_},
                     {"parts", parts_},
                     {"config", job_.config_toml},
                     {"validation", last_validation_}};
    options.keep = config_.keep_checkpoints;
    log_->note(fmt::format("checkpoint {}", save_checkpoint(job_.run, {model(), optimizer_}, options).string()));
    saved_step_ = step_;
  }
  if (last) save_final();
  log_->restart_clock();
}

void Trainer::save_final() {
  const fs::path directory = job_.run / "final";
  SaveOptions options = save_options();
  options.weights = saved_weights_from_name(config_.weights, "run.weights");
  if (published()) {
    const fs::path& base = *opened_.base_path;
    const std::string now = hash_weights(base);
    require(now == opened_.base_sha256, "{}: changed since training began: SHA-256 {}, now {}", base.string(),
            opened_.base_sha256, now);
    export_trained_published(model(), directory, {base, options.weights, options.training});
  } else {
    save_trained_parts(model(), directory, options);
  }
  log_->note(fmt::format("trained parts {}", directory.string()));
}

}  // namespace

TrainOutcome train(const TrainJob& job) {
  const c10::OptionalDeviceGuard guard(job.device.is_cpu() ? std::nullopt : std::optional(job.device));
  Trainer trainer(job);
  return trainer.run();
}

}  // namespace cepe
