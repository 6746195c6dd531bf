#include "eval/long/long_report.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "base/report.h"

namespace cepe {
namespace {

struct ScoreName {
  const char *score, *shown;
  bool main;  // of a task: what its plot shows
};
constexpr ScoreName kScores[] = {{"accuracy", "accuracy", true},
                                 {"em", "EM", false},
                                 {"f1", "F1", true},
                                 {"has_answer", "has answer", false},
                                 {"rouge1", "ROUGE-1 (rouge-score)", false},
                                 {"rouge2", "ROUGE-2 (rouge-score)", false},
                                 {"rougeL", "ROUGE-L (rouge-score)", true},
                                 {"rouge-1", "ROUGE-1 (rouge)", false},
                                 {"rouge-2", "ROUGE-2 (rouge)", false},
                                 {"rouge-l", "ROUGE-L (rouge)", false},
                                 {"classification", "classification", true},
                                 {"count", "count", true},
                                 {"similarity", "similarity", true}};

// The examples with their main score alone, by one name.
std::vector<ScoredExample> main_scores(std::span<const ScoredExample> examples) {
  std::vector<ScoredExample> reduced;
  for (const ScoredExample& example : examples) {
    for (const ScoreName& known : kScores) {
      const auto score = example.scores.find(known.score);
      if (!known.main || score == example.scores.end()) continue;
      reduced.push_back({example.tags, example.cluster, {{"main", score->second}}});
      break;
    }
  }
  return reduced;
}

// 1 for each example whose document was cut, 0 for others; those without a document do not count.
std::vector<ScoredExample> cuts(std::span<const ScoredExample> examples) {
  std::vector<ScoredExample> made;
  for (const ScoredExample& example : examples) {
    const auto document = example.tags.find("document"), cut = example.tags.find("cut");
    if (document == example.tags.end() || document->second == "none" || cut == example.tags.end()) continue;
    made.push_back({example.tags, example.cluster, {{"cut", cut->second == "yes" ? 1.0 : 0.0}}});
  }
  return made;
}

}  // namespace

LongReport report_long(std::span<const ScoredExample> examples) {
  return {group_results(examples, {"task", "setting", "placement", "document"}),
          group_results(main_scores(examples), {"task", "setting", "placement", "document", "length"}),
          group_results(cuts(examples), {"setting"})};
}

std::string long_table(const LongReport& report) {
  std::vector<Result> lines;
  std::vector<std::string> tasks;
  for (const Result& result : report.results) {
    const std::string& task = result.tags.at("task");
    if (std::find(tasks.begin(), tasks.end(), task) == tasks.end()) tasks.push_back(task);
  }
  for (const std::string& task : tasks) {
    for (const ScoreName& score : kScores) {
      for (const Result& result : report.results) {
        if (result.tags.at("task") != task || result.score != score.score) continue;
        lines.push_back(result);
        lines.back().tags["questions"] = fmt::format("{}, {}", task, score.shown);
      }
    }
  }
  std::string table = to_markdown(lines, "questions", {"setting"});
  for (const Result& result : report.cut) {
    if (result.value.value == 0) continue;
    table += fmt::format("\n{}: the middle of the document was cut out in {:.0f} of {} examples.\n",
                         result.tags.at("setting"), result.value.value * static_cast<double>(result.examples),
                         result.examples);
  }
  return table;
}

void write_long_plot(const LongReport& report, const std::filesystem::path& path) {
  // A point: the mean over the tasks that have documents of the length.
  std::vector<std::string> settings;
  std::map<std::pair<std::string, int64_t>, std::vector<Result>> points;
  for (const Result& result : report.by_length) {
    const std::string& setting = result.tags.at("setting");
    if (std::find(settings.begin(), settings.end(), setting) == settings.end()) settings.push_back(setting);
    points[{setting, std::stoll(result.tags.at("length"))}].push_back(result);
  }
  std::vector<PlotSeries> lines;
  for (const std::string& setting : settings) {
    PlotSeries line{setting, {}, {}, {}};
    for (const auto& [place, results] : points) {
      if (place.first != setting) continue;
      const Result mean = mean_result(results, {});
      line.x.push_back(static_cast<double>(place.second));
      line.y.push_back(100 * mean.value.value);
      line.error.push_back(100 * mean.value.standard_error.value_or(0));
    }
    lines.push_back(std::move(line));
  }
  write_svg_plot(path, {"Long texts", "length of the document (tokens, at most)", "main score (percent)"}, lines);
}

}  // namespace cepe
