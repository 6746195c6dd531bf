#include "eval/question_report.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "base/error.h"
#include "base/report.h"

namespace cepe {
namespace {

struct ScoreName {
  const char *score, *shown;
};
constexpr ScoreName kScores[] = {
    {"em", "EM"}, {"f1", "F1"}, {"has_answer", "has answer"}, {"unanswerable", "unanswerable or not"}};

int64_t number(const Result& result, const char* tag) { return std::stoll(result.tags.at(tag)); }

// The place of the gold passage among its reader's, from 1; none where it is drawn anew for each question.
std::optional<double> place_of(const Result& result) {
  const std::string& position = result.tags.at("position");
  const auto count = static_cast<double>(number(result, result.tags.at("reader").c_str()));
  if (position == "first") return 1;
  if (position == "middle") return (count + 1) / 2;
  if (position == "last") return count;
  if (position.find_first_not_of("0123456789") != std::string::npos) return std::nullopt;
  return std::stod(position) + 1;
}

// One line of the plot.
struct Line {
  std::string label;
  std::vector<std::pair<double, const Result*>> points;
};

void add_point(std::vector<Line>& lines, const std::string& label, double x, const Result& result) {
  auto line = std::find_if(lines.begin(), lines.end(), [&](const Line& known) { return known.label == label; });
  if (line == lines.end()) line = lines.insert(lines.end(), Line{label, {}});
  line->points.emplace_back(x, &result);
}

// Who reads passages, and which: "encoder, gold first", "decoder 10 + encoder, gold in the encoder, first".
std::string kind_of(const Result& result) {
  const int64_t decoder = number(result, "decoder");
  const bool encoder = number(result, "encoder") > 0, both = encoder && decoder > 0;
  const std::string who = both ? fmt::format("decoder {} + encoder", decoder) : encoder ? "encoder" : "decoder";
  const std::string& gold = result.tags.at("gold");
  if (gold == "never") return who + ", no gold";
  if (gold == "retrieved") return who + ", as retrieved";
  if (gold == "other") return who + ", another question's";
  return fmt::format("{}, gold{} {}", who, both ? " in the " + result.tags.at("reader") + "," : "",
                     result.tags.at("position"));
}

// Over the number of passages. Those of one reader begin with no passages.
std::vector<Line> lines_over_passages(const std::vector<const Result*>& results) {
  std::vector<Line> lines;
  std::map<std::string, const Result*> none;
  for (const Result* result : results) {
    if (result->tags.at("gold") == "none") none[result->tags.at("task")] = result;
  }
  for (const Result* result : results) {
    const std::string& task = result->tags.at("task");
    const int64_t decoder = number(*result, "decoder"), encoder = number(*result, "encoder");
    if (decoder + encoder == 0) continue;
    const std::string label = task + ": " + kind_of(*result);
    const size_t before = lines.size();
    add_point(lines, label, static_cast<double>(decoder + encoder), *result);
    const bool fresh = lines.size() > before, one_reader = decoder == 0 || encoder == 0;
    if (fresh && one_reader && none.contains(task)) add_point(lines, label, 0, *none[task]);
  }
  for (const auto& [name, result] : none) {
    const std::string& task = name;  // clang 16 captures no structured binding where OpenMP is on
    const auto is_begun = [&](const Line& line) { return line.label.starts_with(task + ": "); };
    if (std::none_of(lines.begin(), lines.end(), is_begun)) add_point(lines, task + ": no passages", 0, *result);
  }
  return lines;
}

// Over the gold passage's place: a line for each task and numbers of passages.
std::vector<Line> lines_over_places(const std::vector<const Result*>& results) {
  std::vector<Line> lines;
  for (const Result* result : results) {
    if (result->tags.at("gold") != "always") continue;
    const std::optional<double> place = place_of(*result);
    if (!place) continue;
    add_point(lines,
              fmt::format("{}: decoder {}, encoder {}, gold in the {}", result->tags.at("task"),
                          number(*result, "decoder"), number(*result, "encoder"), result->tags.at("reader")),
              *place, *result);
  }
  return lines;
}

}  // namespace

QuestionReport report_questions(std::span<const ScoredExample> examples) {
  const std::vector<std::string> parts = {"task", "setting", "decoder", "encoder", "gold", "reader", "position"};
  QuestionReport report{group_results(examples, parts), {}};
  const bool unanswerable = std::any_of(examples.begin(), examples.end(), [](const ScoredExample& example) {
    return example.scores.contains("unanswerable");
  });
  if (unanswerable) report.by_answerable = group_results(examples, {"task", "setting", "answerable"});
  return report;
}

std::string question_table(const QuestionReport& report) {
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
  return to_markdown(lines, "questions", {"setting"});
}

void write_question_plot(const QuestionReport& report, const std::filesystem::path& path) {
  std::vector<const Result*> shown;
  std::set<std::string> positions;
  for (const Result& result : report.results) {
    if (result.score != "f1") continue;
    shown.push_back(&result);
    if (result.tags.at("gold") == "always" && place_of(result)) positions.insert(result.tags.at("position"));
  }
  const bool places = positions.size() > 1;
  std::vector<PlotSeries> series;
  for (Line& line : places ? lines_over_places(shown) : lines_over_passages(shown)) {
    std::stable_sort(line.points.begin(), line.points.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    PlotSeries one{line.label, {}, {}, {}};
    for (const auto& [x, result] : line.points) {
      one.x.push_back(x);
      one.y.push_back(100 * result->value.value);
      one.error.push_back(100 * result->value.standard_error.value_or(0));
    }
    series.push_back(std::move(one));
  }
  write_svg_plot(path, {"Questions", places ? "place of the gold passage" : "passages", "F1 (percent)"}, series);
}

}  // namespace cepe
