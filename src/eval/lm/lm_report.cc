#include "eval/lm/lm_report.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/error.h"
#include "base/report.h"
#include "eval/lm/lm_run.h"

namespace cepe {
namespace {

using Comparison = std::optional<PairedEstimate> PerplexityRow::*;

struct NamedComparison {
  const char* score;
  Comparison comparison;
};
constexpr NamedComparison kComparisons[] = {
    {"change", &PerplexityRow::change},
    {"against_full_attention", &PerplexityRow::against_full_attention},
    {"against_cepe", &PerplexityRow::against_cepe},
    {"reading_gain", &PerplexityRow::reading_gain},
    {"same_source_gain", &PerplexityRow::same_source_gain},
    {"reading_gain_difference", &PerplexityRow::reading_gain_difference},
    {"same_source_gain_difference", &PerplexityRow::same_source_gain_difference}};

int64_t windows_of(const PerplexityRow& row) { return static_cast<int64_t>(row.scored.nll.size()); }

Result result_of(const PerplexityRow& row, const char* score, const Estimate& value, const char* unit) {
  return {row_tags(row.scored), score, windows_of(row), value, unit};
}

double tokens_a_second(const PerplexityRecord& record, const PerplexityRow& row) {
  const auto windows = static_cast<double>(windows_of(row));
  return windows * static_cast<double>(row.scored.context_tokens + record.decoder_tokens) / row.scored.seconds;
}

// A column that only some records have.
struct Column {
  const char* name;
  Comparison comparison;
  std::string (*text)(const std::optional<Estimate>&);
};
std::string gain_or_none(const std::optional<Estimate>& gain) { return gain ? gain_text(*gain) : "-"; }
constexpr Column kColumns[] = {{"change", &PerplexityRow::change, change_text},
                               {"against full attention", &PerplexityRow::against_full_attention, change_text},
                               {"against cepe", &PerplexityRow::against_cepe, change_text},
                               {"gain over other document", &PerplexityRow::reading_gain, gain_or_none},
                               {"gain over same source", &PerplexityRow::same_source_gain, gain_or_none}};

// Of a row without context: the model's own decoder, or another model.
std::string alone_label(const Reading& reading) {
  return reading.reader == kCepeReader ? "none (plain)" : reading.reader + ": none";
}

// A comparison on fewer windows than the row's says on how many: the columns of windows and documents are the row's.
std::string comparison_text(const PerplexityRow& row, const Column& column) {
  const auto& value = row.*column.comparison;
  std::string text = column.text(value);
  if (value && value->windows != windows_of(row)) {
    text += fmt::format(" (windows: {}, documents: {})", value->windows, value->documents);
  }
  return text;
}

std::vector<Column> columns_of(const PerplexityRecord& record) {
  std::vector<Column> columns;
  for (const Column& column : kColumns) {
    const auto has = [&](const PerplexityRow& row) { return (row.*column.comparison).has_value(); };
    if (std::any_of(record.rows.begin(), record.rows.end(), has)) columns.push_back(column);
  }
  return columns;
}

std::string table_of(const PerplexityRecord& record) {
  std::set<std::string> domains;
  for (const PerplexityRow& row : record.rows) domains.insert(row.scored.domain);
  const std::vector<Column> columns = columns_of(record);
  std::vector<std::string> header{"context", "tokens", "windows", "documents", "perplexity"};
  if (domains.size() > 1) header.insert(header.begin(), "domain");
  for (const Column& column : columns) header.emplace_back(column.name);
  header.insert(header.end(), {"tokens/s", "seconds", "memory"});
  Table table(header);
  for (const PerplexityRow& row : record.rows) {
    const ScoredRow& scored = row.scored;
    const bool alone = scored.context_tokens == 0, timed = scored.seconds > 0;
    std::vector<std::string> cells{alone ? alone_label(scored.reading) : reading_label(scored.reading),
                                   format_count(static_cast<uint64_t>(scored.context_tokens)),
                                   std::to_string(scored.nll.size()), std::to_string(row.documents),
                                   perplexity_text(row.perplexity)};
    if (domains.size() > 1) cells.insert(cells.begin(), scored.domain);
    for (const Column& column : columns) cells.push_back(comparison_text(row, column));
    cells.push_back(timed ? format_count(static_cast<uint64_t>(std::llround(tokens_a_second(record, row)))) : "-");
    cells.push_back(timed ? fmt::format("{:.1f}", scored.seconds) : "-");
    cells.push_back(scored.working_bytes > 0 ? format_bytes(scored.working_bytes) : "-");
    table.add_row(std::move(cells));
  }
  return table.markdown();
}

}  // namespace

std::vector<Result> lm_results(const PerplexityRecord& record) {
  std::vector<Result> results;
  for (const PerplexityRow& row : record.rows) {
    results.push_back(result_of(row, "perplexity", {.value = row.perplexity}, "perplexity"));
    for (const NamedComparison& named : kComparisons) {
      const auto& value = row.*named.comparison;
      if (value) results.push_back({row_tags(row.scored), named.score, value->windows, *value});
    }
  }
  return results;
}

std::vector<Result> lm_costs(const PerplexityRecord& record) {
  std::vector<Result> costs;
  for (const PerplexityRow& row : record.rows) {
    if (row.scored.seconds <= 0) continue;
    costs.push_back(result_of(row, "seconds", {.value = row.scored.seconds}, "s"));
    costs.push_back(result_of(row, "tokens_per_second", {.value = tokens_a_second(record, row)}, "tokens/s"));
    costs.push_back(result_of(row, "peak_memory", {.value = static_cast<double>(row.scored.peak_bytes)}, "bytes"));
    costs.push_back(
        result_of(row, "working_memory", {.value = static_cast<double>(row.scored.working_bytes)}, "bytes"));
  }
  return costs;
}

std::string lm_table(const PerplexityRecord& record) {
  const std::string table = table_of(record);
  return table + "\n" + legend_of(record, table) + "\n" + to_sentences(record);
}

}  // namespace cepe
