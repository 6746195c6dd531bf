// Results of several runs side by side.
#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "base/error.h"
#include "base/json_text.h"
#include "report/evaluation_page.h"
#include "report/html.h"
#include "report/tag_columns.h"

namespace cepe {
namespace {

using Runs = std::vector<size_t>;  // places in the list of runs, ascending

// What a result is about, the same in every run that has it.
struct ResultKey {
  std::string command, data;
  RunTags tags;
  std::string score;
  auto operator<=>(const ResultKey&) const = default;
};

struct MergedRow {
  ResultKey key;
  std::map<size_t, const RunResult*> of_run;
};

// Where no tag says what task a result is of, as in language modelling: the content of the files that the run read.
std::string data_of(const nlohmann::json& configuration, const RunTags& tags) {
  const auto data = configuration.find("data");
  if (tags.contains("task") || data == configuration.end() || !data->is_array()) return "";
  std::string hashes;
  for (const nlohmann::json& file : *data) {
    const auto hash = file.is_object() ? file.find("sha256") : file.end();
    if (hash != file.end()) hashes += json_text(*hash);
  }
  return hashes;
}

// The results that two runs or more have, in the order in which they are first met.
std::vector<MergedRow> shared_results(const std::vector<EvaluationRun>& runs) {
  std::vector<MergedRow> rows;
  std::map<ResultKey, size_t> places;
  for (size_t i = 0; i < runs.size(); ++i) {
    for (const RunResult& result : runs[i].results) {
      const auto command = runs[i].configuration.find("command");
      const ResultKey key{command == runs[i].configuration.end() ? "" : json_text(*command),
                          data_of(runs[i].configuration, result.tags), result.tags, result.score};
      const auto [place, fresh] = places.try_emplace(key, rows.size());
      if (fresh) rows.push_back({key, {}});
      rows[place->second].of_run[i] = &result;
    }
  }
  std::erase_if(rows, [](const MergedRow& row) { return row.of_run.size() < 2; });
  return rows;
}

// For each run the first of those that it is connected with by shared results.
Runs first_connected(const std::vector<MergedRow>& rows, size_t runs) {
  Runs first(runs);
  std::iota(first.begin(), first.end(), 0);
  for (const MergedRow& row : rows) {
    for (const auto& [run, result] : row.of_run) {
      const size_t a = first[row.of_run.begin()->first], b = first[run];
      std::replace(first.begin(), first.end(), std::max(a, b), std::min(a, b));
    }
  }
  return first;
}

HtmlCell merged_cell(const MergedRow& row, size_t run, bool several_units) {
  const auto found = row.of_run.find(run);
  if (found == row.of_run.end()) return {""};
  HtmlCell cell = value_cell(*found->second, several_units);
  if (const auto& error = found->second->standard_error) cell.text += " ± " + percent_cell(*error).text;
  return cell;
}

std::string settings_that_differ(const std::vector<EvaluationRun>& runs, const Runs& members) {
  std::vector<std::string> header = {"setting"};
  std::set<std::string> names;
  for (const size_t run : members) {
    header.push_back(runs[run].name);
    for (const auto& [name, value] : runs[run].configuration.items()) names.insert(name);
  }
  HtmlTable table(header);
  for (const std::string& name : names) {
    std::vector<HtmlCell> row = {{name}};
    std::set<std::string> values;
    for (const size_t run : members) {
      const auto value = runs[run].configuration.find(name);
      row.push_back({value == runs[run].configuration.end() ? "" : json_text(*value)});
      values.insert(row.back().text);
    }
    if (values.size() > 1) table.add_row(std::move(row));
  }
  return table.empty() ? "" : html_folded("Settings in which these runs differ", table.str());
}

std::string one_table(const std::vector<EvaluationRun>& runs, const Runs& members, const std::vector<MergedRow>& rows) {
  std::vector<RunTags> tags;
  for (const MergedRow& row : rows) tags.push_back(row.key.tags);
  const TagColumns columns = tag_columns(tags);
  std::vector<std::string> header = columns.names;
  const bool units = std::any_of(rows.begin(), rows.end(),
                                 [](const MergedRow& row) { return !row.of_run.begin()->second->unit.empty(); });
  header.push_back(units ? "score" : "score (%)");
  for (const size_t run : members) header.push_back(runs[run].name);
  HtmlTable table(header);
  for (const MergedRow& row : rows) {
    std::vector<HtmlCell> cells;
    for (const std::string& name : columns.names) cells.push_back(tag_cell(row.key.tags, name));
    cells.push_back({row.key.score});
    for (const size_t run : members) cells.push_back(merged_cell(row, run, units));
    table.add_row(std::move(cells));
  }
  const std::string same = columns.same.empty() ? "" : "<p>In every row: " + html_text(columns.same) + ".</p>\n";
  return same + table.str() + settings_that_differ(runs, members);
}

}  // namespace

std::string merged_tables(const std::vector<EvaluationRun>& runs) {
  const std::vector<MergedRow> rows = shared_results(runs);
  if (rows.empty()) return "";
  const Runs first = first_connected(rows, runs.size());
  std::string html = "<section id=\"side-by-side\"><h2>Side by side</h2>\n<p>Value ± standard error.</p>\n";
  for (size_t i = 0; i < runs.size(); ++i) {
    Runs members;
    for (size_t run = 0; run < runs.size(); ++run) {
      if (first[run] == i) members.push_back(run);
    }
    std::vector<MergedRow> own;
    std::copy_if(rows.begin(), rows.end(), std::back_inserter(own),
                 [&](const MergedRow& row) { return first[row.of_run.begin()->first] == i; });
    if (!own.empty()) html += one_table(runs, members, own);
  }
  return html + "</section>\n";
}

}  // namespace cepe
