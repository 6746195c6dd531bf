#include "train/step_log.h"

#include <ATen/ATen.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <map>
#include <sstream>

#include "base/error.h"
#include "base/file.h"
#include "base/json_text.h"
#include "base/report.h"

namespace cepe {
namespace {

struct KeptLines {
  std::string text;
  std::vector<nlohmann::json> records;
};

// The lines of a log up to a step; a last line that was cut by a crash is dropped.
KeptLines lines_up_to(const std::filesystem::path& file, int64_t step) {
  std::istringstream lines(read_file(file));
  KeptLines kept;
  for (std::string line; std::getline(lines, line);) {
    nlohmann::json record = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (record.is_object() && record.contains("step") && record["step"].is_number_integer() &&
        record["step"].get<int64_t>() <= step) {
      kept.text += line + "\n";
      kept.records.push_back(std::move(record));
    }
  }
  return kept;
}

// Contexts of more than a quarter of so many chunks, and no more.
std::string size_label(int64_t chunks) {
  return chunks <= 1 ? "1 chunk" : fmt::format("{} to {} chunks", chunks / 4 + 1, chunks);
}

std::string percent(double fraction) { return fmt::format("{:+.2f} %", 100 * fraction); }

}  // namespace

StepLog::StepLog(const StepLogOptions& options, int64_t resumed_step)
    : options_(options), first_step_(resumed_step + 1), clock_(DeviceMoment(options.device)) {
  if (options.file.empty()) return;
  KeptLines kept;
  if (std::filesystem::exists(options.file)) {
    kept = lines_up_to(options.file, resumed_step);
    write_file(options.file, kept.text);
  }
  file_ = std::fopen(options.file.c_str(), "ae");
  require(file_ != nullptr, "{}: cannot open the log: {}", options.file.string(), std::strerror(errno));
  for (const nlohmann::json& record : kept.records) {
    if (!record.contains("loss")) kept_validation_ = record["step"].get<int64_t>();
  }
  if (has_event_file(options.file.parent_path())) return;
  for (const nlohmann::json& record : kept.records) write_event(record);
}

StepLog::~StepLog() {
  if (file_) std::fclose(file_);
}

void StepLog::submit(const StepInfo& info, const StepLosses& losses, const at::Tensor& gradient_norm) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> scalars = {losses.all, gradient_norm};
  const bool both = losses.plain.defined() && losses.answers.defined();
  if (both) scalars.insert(scalars.end(), {losses.plain, losses.answers});
  for (at::Tensor& scalar : scalars) scalar = scalar.detach().to(at::kFloat);
  const at::Tensor numbers = at::stack(scalars);
  const at::Tensor values = losses.votes.defined() ? at::cat({numbers, losses.votes}) : numbers;
  Pending next{info, values, both, {}};
  if (!options_.device.is_cpu()) {
    next.values = at::empty(values.sizes(), at::TensorOptions(at::kFloat).pinned_memory(true));
    next.values.copy_(values, /*non_blocking=*/true);
  }
  next.time = clock_.finish_step(DeviceMoment(options_.device));
  flush();
  pending_ = std::move(next);
  if (options_.device.is_cpu()) flush();  // the CPU has computed the step already
}

void StepLog::flush() {
  if (!pending_) return;
  Pending pending = std::move(*pending_);
  pending_.reset();
  print(std::move(pending));
}

void StepLog::restart_clock() { clock_.restart(DeviceMoment(options_.device)); }

void StepLog::print(Pending pending) {
  pending.time.wait();
  const float* values = pending.values.data_ptr<float>();
  last_loss_ = values[0];
  not_finite_ = std::isfinite(values[0]) && std::isfinite(values[1]) ? 0 : not_finite_ + 1;
  votes_.assign(values + (pending.both ? 4 : 2), values + pending.values.numel());
  if (file_) print_line(pending);
}

// What the steps that are left take at the speed of the last ones; one slow step weighs little, and the first of a
// sitting, in which libraries prepare themselves, nothing once there is another.
double StepLog::seconds_left(int64_t step, double seconds) {
  constexpr double kNewest = 0.1;
  const bool settled = step > first_step_ + 1;
  usual_seconds_ = settled ? (1 - kNewest) * usual_seconds_ + kNewest * seconds : seconds;
  return usual_seconds_ * static_cast<double>(options_.total_steps - step);
}

void StepLog::print_line(const Pending& pending) {
  const double seconds = std::max(pending.time.seconds(), 1e-9);
  const StepInfo& info = pending.info;
  const float* values = pending.values.data_ptr<float>();
  const double loss = values[0], norm = values[1];
  const double rate = static_cast<double>(info.tokens) / seconds, tflops = info.flops / seconds / 1e12;
  const std::string parts = pending.both ? fmt::format(" (text {:.4f}, answers {:.4f})", values[2], values[3]) : "";
  std::string line = fmt::format(
      "step {}/{}  loss {:.4f}{}  grad {:.3f}  lr {:.2e}  {:.0f} ms  {:.1f}k tokens/s  {:.4g} TFLOP/s", info.step,
      options_.total_steps, loss, parts, norm, info.learning_rate, 1e3 * seconds, rate / 1e3, tflops);
  nlohmann::json record = {{"step", info.step},
                           {"loss", loss},
                           {"gradient_norm", norm},
                           {"learning_rate", info.learning_rate},
                           {"milliseconds", 1e3 * seconds},
                           {"tokens", info.tokens},
                           {"tokens_per_second", rate},
                           {"tflops", tflops}};
  if (pending.both) {
    record["loss_text"] = values[2];
    record["loss_answers"] = values[3];
  }
  if (options_.peak_flops > 0) {
    const double mfu = info.flops / seconds / options_.peak_flops;
    line += fmt::format("  MFU {:.1f} %", 100 * mfu);
    record["mfu"] = mfu;
  }
  const double left = seconds_left(info.step, seconds);
  record["seconds_left"] = left;
  if (info.step < options_.total_steps) line += "  left " + format_seconds(left);
  if (not_finite_ > 0) {
    line += fmt::format("  {} not finite: step left out", std::isfinite(norm) ? "loss" : "gradient");
  }
  note(line);
  write(record);
}

void StepLog::validation(int64_t step, const ValidationResult& result, double seconds) {
  if (!file_) return;
  nlohmann::json record = {{"step", step}, {"seconds", seconds}};
  for (const ValidationRow& row : result.documents) {
    std::string line =
        fmt::format("validation {}  {}  {} samples  loss {:.4f} with context, {:.4f} without: perplexity {}", step,
                    row.domain, row.samples, row.own, row.none, percent(std::expm1(row.own - row.none)));
    nlohmann::json entry = {
        {"domain", row.domain}, {"samples", row.samples}, {"loss_context", row.own}, {"loss_no_context", row.none}};
    if (row.other) {
      line += fmt::format("; other document's context {}, reading gain {}", percent(std::expm1(*row.other - row.none)),
                          percent(*row.reading_gain()));
      entry["loss_other_context"] = *row.other;
      entry["reading_gain"] = *row.reading_gain();
    }
    note(line);
    record["validation"].push_back(entry);
  }
  for (const TextRow& row : result.texts) {
    std::string line =
        fmt::format("validation {}  {}  {} samples  loss {:.4f}", step, row.domain, row.samples, row.loss);
    nlohmann::json entry = {{"domain", row.domain}, {"samples", row.samples}, {"loss", row.loss}};
    if (row.accuracy) {
      line += fmt::format("  accuracy {:.1f} %", 100 * *row.accuracy);
      entry["accuracy"] = *row.accuracy;
    } else {
      line += fmt::format("  perplexity {:.4g}", std::exp(row.loss));
    }
    note(line);
    record["text_validation"].push_back(entry);
  }
  for (const SampleRow& row : result.samples) {
    nlohmann::json entry = {{"domain", row.domain}, {"samples", row.samples}, {"loss", row.loss}, {"exact", row.exact}};
    if (row.chunks) entry["chunks"] = *row.chunks;
    record[row.chunks ? "ask_validation_by_chunks" : "ask_validation"].push_back(entry);
  }
  if (!result.samples.empty()) note_samples(step, result.samples);
  write(record);
}

// A table: a row a kind, and where contexts are of several sizes a column a size.
void StepLog::note_samples(int64_t step, const std::vector<SampleRow>& rows) {
  std::map<int64_t, std::map<std::string, std::string>> by_size;
  for (const SampleRow& row : rows) {
    if (row.chunks) by_size[*row.chunks][row.domain] = fmt::format("{:.1f}", 100 * row.exact);
  }
  std::vector<std::string> header = {"kind", "samples", "loss", "exact %"};
  for (const auto& [chunks, kinds] : by_size) header.push_back(size_label(chunks));
  Table table(header);
  for (const SampleRow& row : rows) {
    if (row.chunks) continue;
    std::vector<std::string> cells = {row.domain, fmt::format("{}", row.samples), fmt::format("{:.4f}", row.loss),
                                      fmt::format("{:.1f}", 100 * row.exact)};
    for (auto& [chunks, kinds] : by_size) cells.push_back(kinds[row.domain]);
    table.add_row(std::move(cells));
  }
  std::istringstream lines(table.str());
  for (std::string line; std::getline(lines, line);) note(fmt::format("validation {}  {}", step, line));
}

void StepLog::note(const std::string& text) {
  if (!file_) return;
  std::printf("%s\n", printable(text).c_str());
  std::fflush(stdout);
}

void StepLog::write(const nlohmann::json& record) {
  const std::string line = json_text(record) + "\n";
  const bool written = std::fwrite(line.data(), 1, line.size(), file_) == line.size() && std::fflush(file_) == 0;
  require(written, "{}: cannot write the log: {}", options_.file.string(), std::strerror(errno));
  write_event(record);
}

void StepLog::write_event(const nlohmann::json& record) {
  if (!events_) events_.emplace(options_.file.parent_path(), first_step_);
  events_->write(record);
}

}  // namespace cepe
