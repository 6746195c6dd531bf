#include "report/tag_columns.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <tuple>

#include "base/error.h"
#include "base/report.h"

namespace cepe {

TagColumns tag_columns(const std::vector<RunTags>& rows) {
  std::set<std::string> known;
  for (const RunTags& row : rows) {
    for (const auto& [name, value] : row) known.insert(name);
  }
  std::vector<std::string> names(known.begin(), known.end());
  const auto rank = [](const std::string& name) { return std::tuple(name != "task", name != "setting", name); };
  std::sort(names.begin(), names.end(), [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
  TagColumns columns;
  for (const std::string& name : names) {
    const auto first = rows.front().find(name);
    const bool same = first != rows.front().end() && std::all_of(rows.begin(), rows.end(), [&](const RunTags& row) {
                        const auto tag = row.find(name);
                        return tag != row.end() && tag->second == first->second;
                      });
    if (!same) {
      columns.names.push_back(name);
    } else {
      columns.same += (columns.same.empty() ? "" : ", ") + name + " " + first->second;
    }
  }
  return columns;
}

HtmlCell tag_cell(const RunTags& tags, const std::string& name) {
  const auto tag = tags.find(name);
  if (tag == tags.end()) return {""};
  const std::string& value = tag->second;
  const bool digits = value.find_first_not_of("0123456789") == std::string::npos;
  if (!digits || value.empty() || value.size() > 18) return {value};
  const uint64_t number = std::stoull(value);
  return {format_count(number), static_cast<double>(number)};
}

HtmlCell percent_cell(double share) { return {fmt::format("{:.1f}", 100 * share), share}; }

HtmlCell value_cell(const RunResult& result, bool several_units) {
  if (result.unit.empty()) {
    HtmlCell cell = percent_cell(result.value);
    if (several_units) cell.text += " %";
    return cell;
  }
  const bool bytes = result.unit == "bytes" && result.value >= 0 && result.value < 0x1p63;  // no NaN is
  if (bytes) return {format_bytes(static_cast<uint64_t>(result.value)), result.value};
  const bool large = std::abs(result.value) >= 1000;
  const std::string number = fmt::format("{:.{}f}", result.value, large ? 0 : result.value < 10 ? 3 : 2);
  return {result.unit == result.score ? number : number + " " + result.unit, result.value};
}

}  // namespace cepe
