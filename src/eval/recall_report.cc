#include "eval/recall_report.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/report.h"
#include "tasks/recall.h"

namespace cepe {
namespace {

using Column = std::pair<std::string, std::string>;  // length, placement

Column column_of(const Result& result) { return {result.tags.at("length"), result.tags.at("placement")}; }

bool is_rulers(const Result& result) {
  const std::string& task = result.tags.at("task");
  return task != "needle" && task != "kv";
}

// The means over RULER's tasks, a column each.
std::vector<Result> ruler_means(const std::vector<Result>& results) {
  std::set<std::string> tasks;
  std::vector<Column> columns;
  for (const Result& result : results) {
    if (!is_rulers(result)) continue;
    tasks.insert(result.tags.at("task"));
    if (std::find(columns.begin(), columns.end(), column_of(result)) == columns.end()) {
      columns.push_back(column_of(result));
    }
  }
  std::vector<Result> means;
  if (tasks.size() < 2) return means;
  for (const Column& column : columns) {
    std::vector<Result> parts;
    std::copy_if(results.begin(), results.end(), std::back_inserter(parts),
                 [&](const Result& result) { return is_rulers(result) && column_of(result) == column; });
    if (parts.size() < tasks.size()) continue;
    means.push_back(mean_result(
        parts,
        {{"task", fmt::format("mean of {}", tasks.size())}, {"length", column.first}, {"placement", column.second}}));
  }
  return means;
}

// The lines of plot.svg.
std::vector<PlotSeries> lines_of(const std::vector<Result>& results) {
  std::vector<PlotSeries> lines;
  for (const Result& result : results) {
    const std::string label = result.tags.at("task") + ", " + result.tags.at("placement");
    auto line = std::find_if(lines.begin(), lines.end(), [&](const PlotSeries& s) { return s.label == label; });
    if (line == lines.end()) line = lines.insert(lines.end(), PlotSeries{label, {}, {}, {}});
    line->x.push_back(std::stod(result.tags.at("length")));
    line->y.push_back(100 * result.value.value);
    line->error.push_back(100 * result.value.standard_error.value_or(0));
  }
  return lines;
}

// The place of a number among texts of numbers, ascending.
std::vector<std::string> ascending(std::vector<std::string> numbers) {
  std::sort(numbers.begin(), numbers.end(),
            [](const std::string& a, const std::string& b) { return std::stoll(a) < std::stoll(b); });
  numbers.erase(std::unique(numbers.begin(), numbers.end()), numbers.end());
  return numbers;
}

HeatMap heat_map(const std::vector<Result>& results) {
  HeatMap map{{"", "length (tokens)", "depth (percent)"}, {}, {}, {}};
  for (const Result& result : results) {
    map.x.push_back(result.tags.at("length"));
    map.y.push_back(result.tags.at("depth"));
  }
  map.x = ascending(map.x);
  map.y = ascending(map.y);
  map.values.assign(map.y.size(), std::vector<std::optional<double>>(map.x.size()));
  for (const Result& result : results) {
    const auto row = std::find(map.y.begin(), map.y.end(), result.tags.at("depth")) - map.y.begin();
    const auto column = std::find(map.x.begin(), map.x.end(), result.tags.at("length")) - map.x.begin();
    map.values[static_cast<size_t>(row)][static_cast<size_t>(column)] = result.value.value;
  }
  for (std::string& name : map.x) name = format_count(std::stoull(name));
  const Result& first = results.front();
  map.options.title =
      fmt::format("{}, read by the {}: found, percent", first.tags.at("task"),
                  first.tags.at("placement") == "split" ? "encoder and the decoder" : first.tags.at("placement"));
  return map;
}

}  // namespace

RecallReport report_recall(std::span<const ScoredExample> examples) {
  RecallReport report{group_results(examples, {"task", "length", "placement"}),
                      group_results(examples, {"task", "length", "placement", "depth"})};
  const std::vector<Result> means = ruler_means(report.results);
  report.results.insert(report.results.end(), means.begin(), means.end());
  return report;
}

std::string recall_table(const RecallReport& report) {
  return to_markdown(report.results, "task", {"length", "placement"});
}

std::vector<std::filesystem::path> write_recall_plots(const RecallReport& report,
                                                      const std::filesystem::path& directory) {
  std::vector<Result> shown;
  for (const Result& result : report.results) {
    if (result.tags.at("task").starts_with("mean")) shown.push_back(result);
  }
  std::vector<std::filesystem::path> files{directory / "plot.svg"};
  write_svg_plot(files[0], {"Recall", "length (tokens)", "found (percent)"},
                 lines_of(shown.empty() ? report.results : shown));
  std::map<std::pair<std::string, std::string>, std::vector<Result>> maps;
  for (const Result& result : report.at_depths) {
    maps[{result.tags.at("task"), result.tags.at("placement")}].push_back(result);
  }
  for (const auto& [name, results] : maps) {
    files.push_back(directory / fmt::format("heat_{}_{}.svg", name.first, name.second));
    write_svg_heat_map(files.back(), heat_map(results));
  }
  return files;
}

}  // namespace cepe
