#include <map>

#include "base/report.h"
#include "eval/retrieval_lm.h"

namespace cepe {
namespace {

using nlohmann::json;

std::string change_text(const Estimate& change) { return format_change(change.value, change.half_width); }

json estimate_json(const Estimate& estimate) {
  json value = {{"value", estimate.value}, {"standard_error", nullptr}, {"half_width", nullptr}};
  if (estimate.standard_error) value["standard_error"] = *estimate.standard_error;
  if (estimate.half_width) value["half_width"] = *estimate.half_width;
  return value;
}

}  // namespace

std::string retrieval_lm_table(const RetrievalLmRun& run) {
  std::string table =
      "| reader | passages | perplexity | against none | against another query's | seconds a window |\n"
      "|---|---|---|---|---|---|\n";
  for (const RetrievalLmRow& row : run.rows) {
    table += fmt::format("| {} | {} | {:.4f} | {} | {} | {:.2f} |\n", row.reader, row.passages, row.perplexity,
                         row.passages == 0 ? "" : change_text(row.change),
                         row.against_other ? change_text(*row.against_other) : "", row.seconds);
  }
  return table;
}

json to_json(const RetrievalLmRun& run) {
  json rows = json::array();
  for (const RetrievalLmRow& row : run.rows) {
    json value = {{"reader", row.reader},
                  {"passages", row.passages},
                  {"perplexity", row.perplexity},
                  {"nll", row.nll},
                  {"change", estimate_json(row.change)},
                  {"seconds", row.seconds}};
    if (row.against_other) value["against_other"] = estimate_json(*row.against_other);
    rows.push_back(std::move(value));
  }
  return {{"rows", rows},
          {"windows", run.windows},
          {"documents", run.documents},
          {"resumed", run.resumed},
          {"search_seconds", run.search_seconds},
          {"passages_left_out", run.left_out},
          {"windows_with_fewer_passages", run.short_windows},
          {"controls_with_fewer_passages", run.short_controls}};
}

void write_retrieval_lm_plot(const RetrievalLmRun& run, const std::filesystem::path& path) {
  std::vector<PlotSeries> series;
  for (const RetrievalLmRow& row : run.rows) {
    if (series.empty() || series.back().label != row.reader) series.push_back({row.reader, {}, {}, {}});
    series.back().x.push_back(static_cast<double>(row.passages));
    series.back().y.push_back(row.perplexity);
  }
  write_svg_plot(path, {"Retrieval-augmented language modelling", "passages", "perplexity"}, series);
}

}  // namespace cepe
