#include "report/page.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/report.h"
#include "report/evaluation_page.h"
#include "report/html.h"
#include "report/page_parts.h"
#include "report/training_page.h"

namespace cepe {
namespace {

using std::filesystem::path;

// The directory's own path, without "." and "..", and without a last slash.
path whole_path(const path& directory) {
  const path whole = std::filesystem::absolute(directory).lexically_normal();
  return whole.has_filename() ? whole : whole.parent_path();
}

struct AllRuns {
  std::vector<EvaluationRun> evaluations;
  std::vector<TrainingRun> trainings;
};

AllRuns read_runs(const ReportOptions& options) {
  AllRuns runs;
  std::set<path> seen;
  const std::vector<std::string> names = run_names(options.directories);
  for (size_t i = 0; i < options.directories.size(); ++i) {
    const path& directory = options.directories[i];
    require(std::filesystem::is_directory(directory), "{}: expected a directory, found {}", directory.string(),
            std::filesystem::exists(directory) ? "a file" : "nothing");
    require(seen.insert(std::filesystem::canonical(directory)).second, "{}: the directory is given twice",
            directory.string());
    const std::string anchor = fmt::format("run-{}", i + 1);
    const bool evaluation = is_evaluation(directory);
    require(
        evaluation || is_training(directory),
        "{}: expected the directory of an evaluation (results.json, or run.json and samples.jsonl) or of a training "
        "run (log.jsonl and config.toml), found neither",
        directory.string());
    if (evaluation) {
      runs.evaluations.push_back(read_evaluation(directory, options.most_examples));
      runs.evaluations.back().name = names[i];
      runs.evaluations.back().anchor = anchor;
    } else {
      runs.trainings.push_back(read_training(directory));
      runs.trainings.back().name = names[i];
      runs.trainings.back().anchor = anchor;
    }
  }
  return runs;
}

HtmlCell count_cell(int64_t count) {
  return {format_count(static_cast<uint64_t>(std::max<int64_t>(count, 0))), static_cast<double>(count)};
}

// The newest value, over all domains, as a percentage; empty where there is none.
template <typename Values, typename Member>
HtmlCell last_of_all(const ByDomain<Values>& domains, Member curve) {
  const auto all = domains.find("all");
  if (all == domains.end() || (all->second.*curve).values.empty()) return {""};
  const double percent = 100 * (all->second.*curve).values.back();
  return {fmt::format("{:.2f}", percent), percent};
}

std::string summary(const AllRuns& runs) {
  HtmlTable evaluations({"evaluation", "command", "model", "examples", "time", "memory"});
  for (const EvaluationRun& run : runs.evaluations) {
    const auto text = [&](const char* name) {
      const auto value = run.configuration.find(name);
      return value != run.configuration.end() && value->is_string() ? value->get<std::string>() : std::string();
    };
    std::vector<HtmlCell> row = {
        {run.name, {}, run.anchor}, {text("command")}, {text("model")}, count_cell(run.examples)};
    if (run.finished) {
      row.push_back({format_seconds(run.seconds), run.seconds});
      row.push_back({format_bytes(run.peak_memory_bytes), static_cast<double>(run.peak_memory_bytes)});
    } else {
      row.insert(row.end(), {{"not ended"}, {""}});
    }
    evaluations.add_row(std::move(row));
  }
  HtmlTable trainings({"training run", "steps done", "in all", "tokens", "time of steps", "last loss",
                       "reading gain (%)", "exact (%)"});
  for (const TrainingRun& run : runs.trainings) {
    const bool begun = !run.loss.steps.empty();
    trainings.add_row(
        {{run.name, {}, run.anchor},
         count_cell(begun ? static_cast<int64_t>(run.loss.steps.back()) : 0),
         run.of_steps > 0 ? count_cell(run.of_steps) : HtmlCell{""},
         count_cell(run.tokens),
         {format_seconds(run.seconds), run.seconds},
         begun ? HtmlCell{fmt::format("{:.4f}", run.loss.values.back()), run.loss.values.back()} : HtmlCell{""},
         last_of_all(run.validation, &DomainValidation::reading_gain),
         last_of_all(run.ask_validation, &AskValidation::exact)});
  }
  return (evaluations.empty() ? "" : evaluations.str()) + (trainings.empty() ? "" : trainings.str());
}

// What the page may load: nothing but its own style, its one script (by its hash) and pictures within it.
std::string security_policy() {
  const Sha256Digest digest = sha256_digest(kPageScript);
  return fmt::format("default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{}'",
                     base64({reinterpret_cast<const char*>(digest.data()), digest.size()}));
}

}  // namespace

std::vector<std::string> run_names(const std::vector<path>& directories) {
  std::vector<std::vector<path>> parts;
  for (const path& directory : directories) {
    const path whole = whole_path(directory);
    parts.emplace_back(whole.begin(), whole.end());
  }
  size_t common = 0;
  const auto shares = [&](const std::vector<path>& own) {
    return common + 1 < own.size() && own[common] == parts.front()[common];
  };
  while (!parts.empty() && std::all_of(parts.begin(), parts.end(), shares)) ++common;
  std::vector<std::string> names;
  for (const std::vector<path>& own : parts) {
    path name;
    for (size_t i = common; i < own.size(); ++i) name /= own[i];
    names.push_back(name.string());
  }
  return names;
}

ReportPage make_report(const ReportOptions& options) {
  const AllRuns runs = read_runs(options);
  ReportPage page{{}, runs.evaluations.size(), runs.trainings.size(), 0};
  page.html = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"{}\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<title>cepe report</title>\n<style>{}</style></head>\n<body><h1>cepe report</h1>\n",
      security_policy(), kPageStyle);
  page.html += summary(runs) + merged_tables(runs.evaluations);
  for (const EvaluationRun& run : runs.evaluations) {
    page.html += evaluation_section(run);
    page.examples += run.samples.size();
  }
  page.html += trainings_together(runs.trainings);
  for (const TrainingRun& run : runs.trainings) page.html += training_section(run);
  page.html += fmt::format("<script>{}</script>\n</body></html>\n", kPageScript);
  return page;
}

}  // namespace cepe
