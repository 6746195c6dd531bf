#include "eval/results.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/report.h"

namespace cepe {
namespace {

using Tags = std::map<std::string, std::string>;

// The place of a value in a list, to which it is added where it is new.
template <typename T>
size_t place_of(std::vector<T>& list, const T& value) {
  const auto found = std::find(list.begin(), list.end(), value);
  if (found != list.end()) return static_cast<size_t>(found - list.begin());
  list.push_back(value);
  return list.size() - 1;
}

struct Group {
  Tags tags;
  std::string score;
  std::vector<double> values;
  std::vector<int64_t> clusters;
  std::map<std::string, int64_t> names;  // of clusters

  void add(double value, const std::string& cluster) {
    values.push_back(value);
    // Numbers of clusters without a name never meet those with one.
    clusters.push_back(cluster.empty() ? -static_cast<int64_t>(values.size())
                                       : names.emplace(cluster, names.size()).first->second);
  }
};

std::string cell(const Result& result) {
  const std::string value = fmt::format("{:.1f}", 100 * result.value.value);
  if (!result.value.standard_error) return value;
  return fmt::format("{} ± {:.1f}", value, 100 * *result.value.standard_error);
}

std::string column_name(const Result& result, const std::vector<std::string>& columns) {
  std::string name;
  for (const std::string& column : columns) {
    const auto tag = result.tags.find(column);
    if (tag == result.tags.end()) continue;
    const bool digits = tag->second.find_first_not_of("0123456789") == std::string::npos;
    const bool number = digits && !tag->second.empty() && tag->second.size() < 19;
    name += (name.empty() ? "" : ", ") + (number ? format_count(std::stoull(tag->second)) : tag->second);
  }
  return name;
}

// Names of documents and tasks cannot break a table.
std::string table_text(const std::string& text) {
  std::string out;
  for (const char c : printable(text)) out += c == '|' ? std::string("\\|") : std::string(1, c);
  return out;
}

}  // namespace

std::vector<Result> group_results(std::span<const ScoredExample> examples, const std::vector<std::string>& by) {
  std::vector<Group> groups;
  std::map<std::pair<Tags, std::string>, size_t> places;
  for (const ScoredExample& example : examples) {
    Tags tags;
    for (const std::string& name : by) {
      if (const auto tag = example.tags.find(name); tag != example.tags.end()) tags.insert(*tag);
    }
    if (tags.size() != by.size()) continue;
    for (const auto& [score, value] : example.scores) {
      const auto [place, fresh] = places.try_emplace({tags, score}, groups.size());
      if (fresh) groups.push_back({tags, score, {}, {}, {}});
      groups[place->second].add(value, example.cluster);
    }
  }
  std::vector<Result> results;
  for (const Group& group : groups) {
    results.push_back({group.tags, group.score, static_cast<int64_t>(group.values.size()),
                       mean_estimate(group.values, {group.clusters})});
  }
  return results;
}

Result mean_result(std::span<const Result> results, const Tags& tags) {
  require(!results.empty(), "the mean of no results is not defined");
  Result mean{tags, results.front().score, 0, {}};
  double variance = 0;
  bool errors = true;
  const auto count = static_cast<double>(results.size());
  for (const Result& result : results) {
    mean.examples += result.examples;
    mean.value.value += result.value.value / count;
    errors = errors && result.value.standard_error.has_value();
    variance += std::pow(result.value.standard_error.value_or(0) / count, 2);
  }
  if (errors) mean.value.standard_error = std::sqrt(variance);
  return mean;
}

nlohmann::json to_json(const Result& result) {
  const auto number = [](const std::optional<double>& value) {
    return value ? nlohmann::json(*value) : nlohmann::json();
  };
  nlohmann::json row = {{"tags", result.tags},
                        {"score", result.score},
                        {"value", result.value.value},
                        {"standard_error", number(result.value.standard_error)},
                        {"half_width", number(result.value.half_width)},
                        {"n", result.examples}};
  if (!result.unit.empty()) row["unit"] = result.unit;
  return row;
}

std::string to_markdown(std::span<const Result> results, const std::string& line,
                        const std::vector<std::string>& columns) {
  std::vector<std::string> names, lines;
  std::map<std::pair<size_t, size_t>, std::string> cells;
  for (const Result& result : results) {
    const auto tag = result.tags.find(line);
    if (tag == result.tags.end()) continue;
    const size_t row = place_of(lines, tag->second), column = place_of(names, column_name(result, columns));
    cells[{row, column}] = cell(result);
  }
  std::string table = fmt::format("| {} |", line), rule = "|---|";
  for (const std::string& name : names) {
    table += fmt::format(" {} |", table_text(name));
    rule += "---:|";
  }
  table += fmt::format("\n{}\n", rule);
  for (size_t row = 0; row < lines.size(); ++row) {
    table += fmt::format("| {} |", table_text(lines[row]));
    for (size_t column = 0; column < names.size(); ++column) table += fmt::format(" {} |", cells[{row, column}]);
    table += "\n";
  }
  return table;
}

}  // namespace cepe
