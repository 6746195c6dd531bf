#include "report/training_run.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <sstream>

#include "base/file.h"
#include "report/json_lines.h"

namespace cepe {
namespace {

using nlohmann::json;

// JSON has no NaN: the log holds null.
double number(const json& record, const char* name) {
  const json& value = record.at(name);
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
}

void add_step(TrainingRun& run, double step, const json& record) {
  run.loss.add(step, number(record, "loss"));
  if (record.contains("loss_text")) run.loss_text.add(step, number(record, "loss_text"));
  if (record.contains("loss_answers")) run.loss_answers.add(step, number(record, "loss_answers"));
  run.gradient_norm.add(step, number(record, "gradient_norm"));
  run.learning_rate.add(step, number(record, "learning_rate"));
  run.tokens_per_second.add(step, number(record, "tokens_per_second"));
  if (record.contains("mfu")) run.mfu.add(step, number(record, "mfu"));
  if (record.contains("seconds_left")) run.seconds_left = number(record, "seconds_left");
  if (!std::isfinite(run.loss.values.back()) || !std::isfinite(run.gradient_norm.values.back())) ++run.not_finite;
  run.seconds += number(record, "milliseconds") / 1e3;
  run.tokens += record.at("tokens").get<int64_t>();
}

void add_validation(TrainingRun& run, double step, const json& row) {
  DomainValidation& domain = run.validation[row.at("domain").get<std::string>()];
  domain.samples = row.at("samples").get<int64_t>();
  domain.loss.add(step, number(row, "loss_context"));
  domain.no_context.add(step, number(row, "loss_no_context"));
  if (row.contains("reading_gain")) domain.reading_gain.add(step, number(row, "reading_gain"));
}

void add_sample_values(SampleValues& values, double step, const json& row) {
  values.samples = row.at("samples").get<int64_t>();
  values.loss.add(step, number(row, "loss"));
  values.exact.add(step, number(row, "exact"));
}

void add_ask_validation(TrainingRun& run, double step, const json& row) {
  add_sample_values(run.ask_validation[row.at("domain").get<std::string>()], step, row);
}

void add_ask_validation_by_chunks(TrainingRun& run, double step, const json& row) {
  AskValidation& kind = run.ask_validation[row.at("domain").get<std::string>()];
  add_sample_values(kind.by_chunks[row.at("chunks").get<int64_t>()], step, row);
}

void add_text_validation(TrainingRun& run, double step, const json& row) {
  TextDomainValidation& domain = run.text_validation[row.at("domain").get<std::string>()];
  domain.samples = row.at("samples").get<int64_t>();
  domain.loss.add(step, number(row, "loss"));
  if (row.contains("accuracy")) domain.accuracy.add(step, number(row, "accuracy"));
}

// train.steps of the settings as a run writes them; 0 where they do not say. The page shows them whatever they hold.
int64_t steps_of(const std::string& configuration) {
  std::istringstream lines(configuration);
  std::string section;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("[")) section = line;
    if (section == "[train]" && line.starts_with("steps = ")) return std::strtoll(line.c_str() + 8, nullptr, 10);
  }
  return 0;
}

}  // namespace

void Curve::add(double step, double value) {
  steps.push_back(step);
  values.push_back(value);
}

bool is_training(const std::filesystem::path& directory) {
  return std::filesystem::exists(directory / "log.jsonl") && std::filesystem::exists(directory / "config.toml");
}

TrainingRun read_training(const std::filesystem::path& directory) {
  TrainingRun run;
  run.directory = directory;
  run.configuration = read_file(directory / "config.toml");
  run.of_steps = steps_of(run.configuration);
  for_each_record(directory / "log.jsonl", [&](const json& record) {
    const auto step = static_cast<double>(record.at("step").get<int64_t>());
    if (record.contains("loss")) add_step(run, step, record);
    for (const json& row : record.value("validation", json::array())) add_validation(run, step, row);
    for (const json& row : record.value("ask_validation", json::array())) add_ask_validation(run, step, row);
    for (const json& row : record.value("ask_validation_by_chunks", json::array())) {
      add_ask_validation_by_chunks(run, step, row);
    }
    for (const json& row : record.value("text_validation", json::array())) add_text_validation(run, step, row);
  });
  return run;
}

Curve smoothed(const Curve& curve, size_t window) {
  Curve result;
  for (size_t i = 0; i < curve.values.size(); ++i) {
    double sum = 0, count = 0;
    const size_t before = (window - 1) / 2, end = std::min(i + window / 2 + 1, curve.values.size());
    for (size_t k = i - std::min(i, before); k < end; ++k) {
      if (!std::isfinite(curve.values[k])) continue;
      sum += curve.values[k];
      ++count;
    }
    result.add(curve.steps[i], count > 0 ? sum / count : std::numeric_limits<double>::quiet_NaN());
  }
  return result;
}

Curve thinned(const Curve& curve, size_t points) {
  const size_t count = curve.values.size(), stretches = std::max<size_t>(points / 2, 1);
  if (count <= points) return curve;
  Curve result;
  for (size_t s = 0; s < stretches; ++s) {
    const size_t begin = s * count / stretches, end = (s + 1) * count / stretches;
    std::vector<size_t> finite;
    for (size_t i = begin; i < end; ++i) {
      if (std::isfinite(curve.values[i])) finite.push_back(i);
    }
    if (finite.empty()) {  // a gap stays a gap
      result.add(curve.steps[begin], curve.values[begin]);
      continue;
    }
    const auto less = [&](size_t a, size_t b) { return curve.values[a] < curve.values[b]; };
    const auto [low, high] = std::minmax_element(finite.begin(), finite.end(), less);
    result.add(curve.steps[std::min(*low, *high)], curve.values[std::min(*low, *high)]);
    if (*low != *high) result.add(curve.steps[std::max(*low, *high)], curve.values[std::max(*low, *high)]);
  }
  return result;
}

}  // namespace cepe
