#include "report/evaluation_run.h"

#include <algorithm>
#include <limits>
#include <string_view>

#include "base/error.h"
#include "base/file.h"
#include "report/json_lines.h"

namespace cepe {
namespace {

using nlohmann::json;

std::optional<double> number_or_none(const json& value) {
  return value.is_null() ? std::nullopt : std::optional<double>(value.get<double>());
}

// A value that was not finite is recorded as null.
double number_or_nan(const json& value) {
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
}

std::vector<RunResult> results_of(const json& rows) {
  std::vector<RunResult> results;
  for (const json& row : rows) {
    results.push_back({row.at("tags").get<RunTags>(), row.at("score").get<std::string>(),
                       number_or_nan(row.at("value")), number_or_none(row.at("standard_error")),
                       number_or_none(row.at("half_width")), row.at("n").get<int64_t>(),
                       row.value("unit", std::string())});
  }
  return results;
}

void read_results(EvaluationRun& run, const json& results) {
  run.configuration = results.at("configuration");
  run.results = results_of(results.at("results"));
  for (const char* name : {"at_depths", "by_answerable", "by_length", "by_seed", "costs"}) {
    if (!results.contains(name)) continue;
    run.details = results_of(results.at(name));
    run.details_name = name;
  }
  run.examples = results.at("examples").get<int64_t>();
  run.resumed = results.at("resumed").get<int64_t>();
  run.seconds = results.at("seconds").get<double>();
  run.peak_memory_bytes = results.at("peak_memory_bytes").get<uint64_t>();
  run.finished = true;
}

RunExample example_of(const json& record) {
  RunExample example;
  example.id = record.at("id").get<std::string>();
  example.tags = record.at("tags").get<RunTags>();
  for (const auto& [name, value] : record.at("scores").items()) example.scores[name] = number_or_nan(value);
  example.context_tokens = record.at("context_tokens").get<int64_t>();
  example.prompt_tokens = record.at("prompt_tokens").get<int64_t>();
  example.answered = !example.scores.contains("loss");
  if (!example.answered) return example;
  example.prediction = record.at("prediction").get<std::string>();
  example.stop_reason = record.at("stop_reason").get<std::string>();
  example.references = record.at("references").get<std::vector<std::string>>();
  example.answer_tokens = record.at("answer_tokens").get<int64_t>();
  return example;
}

void read_samples(EvaluationRun& run, const std::filesystem::path& file, size_t most) {
  std::vector<RunExample> examples;
  std::vector<std::string> groups;
  for_each_record(file, [&](const json& record) {
    examples.push_back(example_of(record));
    groups.push_back(json(examples.back().tags).dump());
  });
  if (!run.finished) run.examples = static_cast<int64_t>(examples.size());
  for (const size_t i : chosen_examples(groups, most)) run.samples.push_back(std::move(examples[i]));
}

void read_plots(EvaluationRun& run) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(run.directory)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("heat_") && name.ends_with(".svg")) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  if (std::filesystem::exists(run.directory / "plot.svg")) names.insert(names.begin(), "plot.svg");
  for (const std::string& name : names) run.plots.push_back({name, read_file(run.directory / name)});
}

}  // namespace

bool is_evaluation(const std::filesystem::path& directory) {
  using std::filesystem::exists;
  return exists(directory / "results.json") || (exists(directory / "run.json") && exists(directory / "samples.jsonl"));
}

EvaluationRun read_evaluation(const std::filesystem::path& directory, size_t most_examples) {
  EvaluationRun run;
  run.directory = directory;
  const auto results = directory / "results.json", samples = directory / "samples.jsonl";
  if (std::filesystem::exists(results)) {
    read_object(results, [&](const json& value) { read_results(run, value); });
  } else {
    read_object(directory / "run.json", [&](const json& value) { run.configuration = value; });
  }
  require(run.configuration.is_object(), "{}: expected a configuration, which is a JSON object, found something else",
          directory.string());
  if (std::filesystem::exists(samples)) read_samples(run, samples, most_examples);
  read_plots(run);
  return run;
}

std::vector<size_t> chosen_examples(const std::vector<std::string>& groups, size_t most) {
  std::vector<std::vector<size_t>> members;  // of each group, the groups in the order of the file
  std::map<std::string, size_t> places;
  for (size_t i = 0; i < groups.size(); ++i) {
    const auto [place, fresh] = places.try_emplace(groups[i], members.size());
    if (fresh) members.emplace_back();
    members[place->second].push_back(i);
  }
  if (most < members.size()) {
    for (size_t i = 0; i < most; ++i) members[i] = members[i * members.size() / most];
    members.resize(most);
  }
  std::vector<size_t> share(members.size());
  for (size_t left = std::min(most, groups.size()); left > 0;) {
    for (size_t g = 0; g < members.size() && left > 0; ++g) {
      if (share[g] == members[g].size()) continue;
      ++share[g];
      --left;
    }
  }
  std::vector<size_t> chosen;
  for (size_t g = 0; g < members.size(); ++g) {
    for (size_t i = 0; i < share[g]; ++i) chosen.push_back(members[g][i * members[g].size() / share[g]]);
  }
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

}  // namespace cepe
