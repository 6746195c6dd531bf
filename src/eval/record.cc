#include "eval/record.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/report.h"

namespace cepe {
namespace {

using Rows = std::vector<PerplexityRow>;

const char* control_label(Control control) {
  switch (control) {
    case Control::own: return "own";
    case Control::other_document: return "other document";
    case Control::shuffled: return "own, shuffled";
    case Control::full_window: return "full window";
    case Control::full_window_other: return "full window, other document";
  }
  return "";
}

nlohmann::json number_or_null(const std::optional<double>& value) {
  return value && std::isfinite(*value) ? nlohmann::json(*value) : nlohmann::json(nullptr);
}

std::string tokens_text(int64_t count) { return format_count(static_cast<uint64_t>(count)); }

std::string perplexity_text(double value) { return fmt::format("{:.{}f}", value, value < 10 ? 3 : 2); }

std::vector<std::string> domains_of(const Rows& rows) {
  std::vector<std::string> domains;
  for (const auto& row : rows) {
    if (std::find(domains.begin(), domains.end(), row.domain) == domains.end()) domains.push_back(row.domain);
  }
  return domains;
}

std::vector<const PerplexityRow*> select(const Rows& rows, const std::string& domain, Control control) {
  std::vector<const PerplexityRow*> selected;
  for (const auto& row : rows) {
    if (row.domain == domain && row.control == control) selected.push_back(&row);
  }
  return selected;
}

const PerplexityRow* find(const Rows& rows, const std::string& domain, Control control, int64_t context) {
  for (const PerplexityRow* row : select(rows, domain, control)) {
    if (row->context_tokens == context) return row;
  }
  return nullptr;
}

// The row with the longest context, which has one.
const PerplexityRow* longest(const Rows& rows, const std::string& domain, Control control) {
  const auto selected = select(rows, domain, control);
  return selected.empty() || selected.back()->context_tokens == 0 ? nullptr : selected.back();
}

// "3.5 %", or "3.5 % (standard error 0.4)"
std::string gain_text(const PerplexityRow& row) {
  std::string text = fmt::format("{:.1f} %", *row.reading_gain * 100);
  if (row.reading_gain_error) text += fmt::format(" (standard error {:.1f})", *row.reading_gain_error * 100);
  return text;
}

std::string change_sentence(const PerplexityRecord& record, const PerplexityRow& row, const PerplexityRow* without) {
  std::string text;
  const bool window = row.control == Control::full_window;
  if (without && row.change) {
    text = fmt::format("With {} tokens of context {}, perplexity {} from {} to {} ({})",
                       tokens_text(row.context_tokens), window ? "in the decoder's own window" : "through the encoder",
                       *row.change < 0 ? "falls" : "rises", perplexity_text(without->perplexity),
                       perplexity_text(row.perplexity), format_change(*row.change, row.standard_error));
  } else {
    text = fmt::format("With {} tokens of context, perplexity is {}", tokens_text(row.context_tokens),
                       perplexity_text(row.perplexity));
  }
  return text + fmt::format(" on the last {} tokens of {} window{} in {} document{}.", record.scored_tokens, row.spans,
                            row.spans == 1 ? "" : "s", row.documents, row.documents == 1 ? "" : "s");
}

std::string reading_sentence(const Rows& rows, const PerplexityRow& row) {
  const PerplexityRow* full = longest(rows, row.domain, Control::full_window);
  const PerplexityRow* other = find(rows, row.domain, Control::other_document, row.context_tokens);
  if (row.control == Control::full_window || !row.reading_gain || !other) {
    if (!full || !full->reading_gain) {
      return "How much of that is reading and how much is adapting to the kind of text, only another document's "
             "context "
             "can tell (--control other-document).";
    }
    return fmt::format("The plain decoder's reading gain over {} tokens in its own window is {}.",
                       tokens_text(full->context_tokens), gain_text(*full));
  }
  std::string text =
      fmt::format("As much of another document gives {}, so the reading gain, what this very text gives, is {}",
                  perplexity_text(other->perplexity), gain_text(row));
  if (full && full->reading_gain) {
    text += fmt::format("; the plain decoder's, over {} tokens in its own window, is {}",
                        tokens_text(full->context_tokens), gain_text(*full));
  }
  return text + ".";
}

// One line of the plot; it starts at the row without context, which all share.
PlotSeries make_series(const PerplexityRecord& record, const std::string& domain, Control control, bool as_change) {
  PlotSeries series;
  auto rows = select(record.rows, domain, control);
  if (rows.empty()) return series;
  const PerplexityRow* without = find(record.rows, domain, Control::own, 0);
  if (without && control != Control::own) rows.insert(rows.begin(), without);
  for (const PerplexityRow* row : rows) {
    series.x.push_back(static_cast<double>(row->context_tokens));
    series.y.push_back(as_change ? 100 * row->change.value_or(0) : row->perplexity);
    const double scale = as_change ? 100 : without ? without->perplexity : 0;
    series.error.push_back(scale * row->standard_error.value_or(0));
  }
  return series;
}

}  // namespace

const char* control_name(Control control) {
  switch (control) {
    case Control::own: return "own";
    case Control::other_document: return "other-document";
    case Control::shuffled: return "shuffled";
    case Control::full_window: return "full-window";
    case Control::full_window_other: return "full-window-other-document";
  }
  return "";
}

nlohmann::json to_json(const PerplexityRecord& record) {
  nlohmann::json rows = nlohmann::json::array();
  for (const auto& row : record.rows) {
    if (row.control == Control::full_window_other) continue;
    rows.push_back({{"domain", row.domain},
                    {"context_tokens", row.context_tokens},
                    {"control", control_name(row.control)},
                    {"spans", row.spans},
                    {"documents", row.documents},
                    {"perplexity", number_or_null(row.perplexity)},
                    {"change", number_or_null(row.change)},
                    {"standard_error", number_or_null(row.standard_error)},
                    {"reading_gain", number_or_null(row.reading_gain)},
                    {"seconds", row.seconds},
                    {"peak_bytes", row.peak_bytes}});
  }
  return {{"model", record.model},
          {"decoder_tokens", record.decoder_tokens},
          {"scored_tokens", record.scored_tokens},
          {"rows", rows}};
}

std::string to_table(const PerplexityRecord& record) {
  const bool several = domains_of(record.rows).size() > 1;
  std::vector<std::string> header{"context", "context tokens", "perplexity",  "change",
                                  "seconds", "peak memory",    "reading gain"};
  if (several) header.insert(header.begin(), "domain");
  Table table(header);
  for (const auto& row : record.rows) {
    std::vector<std::string> cells{row.context_tokens == 0 ? "none" : control_label(row.control),
                                   tokens_text(row.context_tokens),
                                   perplexity_text(row.perplexity),
                                   row.change ? format_change(*row.change, row.standard_error) : "-",
                                   fmt::format("{:.1f}", row.seconds),
                                   format_bytes(row.peak_bytes),
                                   row.reading_gain ? format_change(*row.reading_gain, row.reading_gain_error) : "-"};
    if (several) cells.insert(cells.begin(), row.domain);
    table.add_row(std::move(cells));
  }
  return table.str();
}

std::string to_sentences(const PerplexityRecord& record) {
  const auto domains = domains_of(record.rows);
  std::string text;
  for (const auto& domain : domains) {
    const PerplexityRow* row = longest(record.rows, domain, Control::own);
    if (!row) row = longest(record.rows, domain, Control::full_window);
    if (!row) continue;
    if (domains.size() > 1) text += domain + ": ";
    text += change_sentence(record, *row, find(record.rows, domain, Control::own, 0)) + " " +
            reading_sentence(record.rows, *row) + "\n";
  }
  return text;
}

void write_plot(const PerplexityRecord& record, const std::filesystem::path& path) {
  const auto domains = domains_of(record.rows);
  bool as_change = domains.size() > 1;
  for (const auto& domain : domains) as_change = as_change && find(record.rows, domain, Control::own, 0) != nullptr;
  std::vector<PlotSeries> lines;
  for (const auto& domain : domains) {
    for (Control control : {Control::own, Control::other_document, Control::full_window}) {
      PlotSeries line = make_series(record, domain, control, as_change);
      if (line.x.empty()) continue;
      line.label = control == Control::own              ? "own text through the encoder"
                   : control == Control::other_document ? "another document through the encoder"
                                                        : "own text in the decoder's window, no encoder";
      if (domains.size() > 1) line.label = domain + ": " + line.label;
      lines.push_back(std::move(line));
    }
  }
  const std::string model = std::filesystem::path(record.model).filename().string();
  write_svg_plot(
      path,
      {fmt::format("{}: {} decoder tokens and more and more context", model, tokens_text(record.decoder_tokens)),
       "context tokens",
       as_change ? "change of perplexity against no context, %"
                 : fmt::format("perplexity of the last {} tokens", record.scored_tokens)},
      lines);
}

}  // namespace cepe
