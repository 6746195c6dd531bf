#include "eval/icl/icl_report.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "base/report.h"
#include "eval/icl/label_rankings.h"

namespace cepe {
namespace {

using Tags = std::map<std::string, std::string>;

// Places in the list `of`, by the value's first appearance.
template <typename T>
size_t place_of(std::vector<T>& list, const T& value) {
  const auto found = std::find(list.begin(), list.end(), value);
  if (found != list.end()) return static_cast<size_t>(found - list.begin());
  list.push_back(value);
  return list.size() - 1;
}

struct Group {
  Tags tags;
  std::vector<const IclRecord*> records;
};

std::vector<Group> groups_of(std::span<const IclRecord> records, const std::vector<std::string>& by) {
  std::vector<Group> groups;
  std::map<Tags, size_t> places;
  for (const IclRecord& record : records) {
    Tags tags;
    for (const std::string& name : by) tags[name] = record.tags.at(name);
    const auto [place, fresh] = places.try_emplace(tags, groups.size());
    if (fresh) groups.push_back({tags, {}});
    groups[place->second].records.push_back(&record);
  }
  return groups;
}

void add_results(const Group& group, const std::string& ranking, const std::string& suffix,
                 std::vector<Result>& results) {
  std::vector<LabelChoice> choices;
  std::vector<double> right;
  Clusterings clusters(1);
  std::map<std::string, int64_t> texts;
  std::vector<std::string> seeds;
  for (const IclRecord* record : group.records) {
    const std::string& chosen = record->chosen.at(ranking);
    choices.push_back({record->label, chosen, static_cast<int64_t>(place_of(seeds, record->tags.at("seed")))});
    right.push_back(chosen == record->label ? 1 : 0);
    clusters[0].push_back(texts.emplace(record->cluster, std::ssize(texts)).first->second);
  }
  const auto n = std::ssize(group.records);
  results.push_back({group.tags, "accuracy" + suffix, n, mean_estimate(right, clusters)});
  results.push_back({group.tags, "macro_f1" + suffix, n, macro_f1(choices, clusters)});
}

const char* main_ranking(const IclRecord& record) {
  return record.chosen.contains("calibrated") ? "calibrated" : "likelihood";
}

struct ScoreName {
  const char *score, *shown;
};
constexpr ScoreName kScores[] = {
    {"accuracy", "accuracy"}, {"macro_f1", "macro F1"}, {"accuracy_likelihood", "accuracy, not calibrated"}};

// Who reads demonstrations, and which, but for the number of the last reader's: "decoder 2 + encoder".
std::string kind_of(const Result& result) {
  if (result.tags.at("encoder") == "0") return "decoder";
  const std::string& decoder = result.tags.at("decoder");
  const std::string kind = decoder == "0" ? "encoder" : fmt::format("decoder {} + encoder", decoder);
  return result.tags.at("labels") == "shuffled" ? kind + ", shuffled labels" : kind;
}

}  // namespace

IclReport report_icl(std::span<const IclRecord> records) {
  IclReport report;
  for (const Group& group : groups_of(records, {"task", "setting", "decoder", "encoder", "labels"})) {
    const std::string main = main_ranking(*group.records.front());
    add_results(group, main, "", report.results);
    for (const auto& [ranking, label] : group.records.front()->chosen) {
      if (ranking != main) add_results(group, ranking, "_" + ranking, report.results);
    }
  }
  for (const Group& group : groups_of(records, {"task", "setting", "decoder", "encoder", "labels", "seed"})) {
    add_results(group, main_ranking(*group.records.front()), "", report.by_seed);
  }
  return report;
}

std::string icl_table(const IclReport& report) {
  std::vector<std::string> tasks;
  for (const Result& result : report.results) place_of(tasks, result.tags.at("task"));
  std::vector<Result> lines;
  for (const std::string& task : tasks) {
    for (const ScoreName& score : kScores) {
      for (const Result& result : report.results) {
        if (result.tags.at("task") != task || result.score != score.score) continue;
        lines.push_back(result);
        lines.back().tags["texts"] = fmt::format("{}, {}", task, score.shown);
      }
    }
  }
  return to_markdown(lines, "texts", {"setting"});
}

void write_icl_plot(const IclReport& report, const std::filesystem::path& path) {
  std::vector<PlotSeries> series;
  const auto line_of = [&](const std::string& label) -> PlotSeries& {
    const auto known = std::find_if(series.begin(), series.end(), [&](const auto& one) { return one.label == label; });
    return known != series.end() ? *known : series.emplace_back(PlotSeries{label, {}, {}, {}});
  };
  std::vector<const Result*> shown;
  for (const Result& result : report.results) {
    if (result.score == "accuracy") shown.push_back(&result);
  }
  const auto count = [](const Result* result) {
    return std::stoll(result->tags.at("decoder")) + std::stoll(result->tags.at("encoder"));
  };
  std::stable_sort(shown.begin(), shown.end(), [&](auto* a, auto* b) { return count(a) < count(b); });
  for (const Result* result : shown) {
    PlotSeries& line = line_of(result->tags.at("task") + ": " + kind_of(*result));
    line.x.push_back(static_cast<double>(count(result)));
    line.y.push_back(100 * result->value.value);
    line.error.push_back(100 * result->value.standard_error.value_or(0));
  }
  write_svg_plot(path, {"In-context learning", "demonstrations", "accuracy (percent)"}, series);
}

}  // namespace cepe
