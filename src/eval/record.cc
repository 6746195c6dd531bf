#include "eval/record.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/error.h"
#include "base/report.h"
#include "eval/windows.h"

namespace cepe {
namespace {

using Rows = std::vector<PerplexityRow>;

const char* control_label(Control control) {
  switch (control) {
    case Control::own: return "own";
    case Control::other_document: return "other document";
    case Control::same_source: return "same source";
    case Control::shuffled: return "own, shuffled";
  }
  return "";
}

const Reading kOwn{kCepeReader, Control::own}, kFullWindow{kFullReader, Control::own};

nlohmann::json number_or_null(const std::optional<double>& value) {
  return value && std::isfinite(*value) ? nlohmann::json(*value) : nlohmann::json(nullptr);
}

std::vector<std::string> domains_of(const Rows& rows) {
  std::vector<std::string> domains;
  for (const auto& row : rows) {
    const std::string& domain = row.scored.domain;
    if (std::find(domains.begin(), domains.end(), domain) == domains.end()) domains.push_back(domain);
  }
  return domains;
}

std::vector<const PerplexityRow*> select(const Rows& rows, const std::string& domain, const Reading& reading) {
  std::vector<const PerplexityRow*> selected;
  for (const auto& row : rows) {
    if (row.scored.domain == domain && row.scored.reading == reading) selected.push_back(&row);
  }
  return selected;
}

const PerplexityRow* find(const Rows& rows, const std::string& domain, const Reading& reading, int64_t context) {
  for (const PerplexityRow* row : select(rows, domain, reading)) {
    if (row->scored.context_tokens == context) return row;
  }
  return nullptr;
}

// The row with the longest context, which has one.
const PerplexityRow* longest(const Rows& rows, const std::string& domain, const Reading& reading) {
  const auto selected = select(rows, domain, reading);
  return selected.empty() || selected.back()->scored.context_tokens == 0 ? nullptr : selected.back();
}

template <typename Holds>
bool any_reading(const Rows& rows, Holds holds) {
  return std::any_of(rows.begin(), rows.end(), [&](const PerplexityRow& row) { return holds(row.scored.reading); });
}

// How cepe's row and full attention's, over as many context tokens, gain over a control.
struct GainKind {
  const char* label;
  std::optional<PairedEstimate> PerplexityRow::* gain;
  std::optional<PairedEstimate> PerplexityRow::* difference;
  Control control;
};
constexpr GainKind kGains[] = {
    {"other document", &PerplexityRow::reading_gain, &PerplexityRow::reading_gain_difference, Control::other_document},
    {"same source", &PerplexityRow::same_source_gain, &PerplexityRow::same_source_gain_difference,
     Control::same_source}};

std::string counted(size_t count, const char* what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

std::string change_sentence(const PerplexityRecord& record, const PerplexityRow& row, const PerplexityRow* without) {
  std::string text;
  const bool window = row.scored.reading == kFullWindow;
  if (without && row.change) {
    text = fmt::format(
        "With {} tokens of context {}, perplexity {} from {} to {} ({})", tokens_text(row.scored.context_tokens),
        window ? "in the decoder's own window" : "through the encoder", row.change->value < 0 ? "falls" : "rises",
        perplexity_text(without->perplexity), perplexity_text(row.perplexity), change_text(row.change));
  } else {
    text = fmt::format("With {} tokens of context, perplexity is {}", tokens_text(row.scored.context_tokens),
                       perplexity_text(row.perplexity));
  }
  return text + fmt::format(" on the last {} tokens of {} in {}.", record.scored_tokens,
                            counted(row.scored.nll.size(), "window"),
                            counted(static_cast<size_t>(row.documents), "document"));
}

// What cepe gains over each control, and what that shows.
std::string gain_sentences(const PerplexityRow& row) {
  std::string text;
  if (row.reading_gain) {
    text += fmt::format(
        " Of that, the reading gain over as much of another document of the domain is {}: it leaves out adaptation to "
        "the kind of text, but holds what any text of the same project or author would give.",
        gain_text(*row.reading_gain));
  }
  if (row.same_source_gain) {
    text += fmt::format(
        " The gain over another document of the same source is {}: what this very text gives beyond recognising its "
        "project or author.",
        gain_text(*row.same_source_gain));
  }
  return text;
}

// Full attention's gains over the longest context that fits its window, beside cepe's over as many tokens.
std::string full_attention_sentences(const Rows& rows, const std::string& domain) {
  const PerplexityRow* full = longest(rows, domain, kFullWindow);
  if (!full) return {};
  const PerplexityRow* own = find(rows, domain, kOwn, full->scored.context_tokens);
  std::string text;
  for (const GainKind& kind : kGains) {
    const std::optional<PairedEstimate>& gain = full->*kind.gain;
    if (!gain) continue;
    text += fmt::format("{} {} over another document of the {}", text.empty() ? "" : ";", gain_text(*gain),
                        kind.control == Control::same_source ? "same source" : "domain");
    if (own && own->*kind.gain) text += fmt::format(" (cepe: {})", gain_text(*(own->*kind.gain)));
  }
  if (text.empty()) return {};
  return fmt::format(
      " Full attention, the frozen, untrained decoder with {} tokens of context in its own window, gains{}.",
      tokens_text(full->scored.context_tokens), text);
}

// Gains of a context length over a control, for each of which there is one.
void add_gain_rows(const PerplexityRecord& record, const std::string& domain, bool several, Table& table) {
  std::set<int64_t> contexts;
  for (const PerplexityRow& row : record.rows) {
    if (row.scored.domain == domain) contexts.insert(row.scored.context_tokens);
  }
  for (const int64_t n : contexts) {
    const PerplexityRow *own = find(record.rows, domain, kOwn, n), *full = find(record.rows, domain, kFullWindow, n);
    for (const GainKind& kind : kGains) {
      const bool ours = own && own->*kind.gain, theirs = full && full->*kind.gain;
      if (!ours && !theirs) continue;
      const PerplexityRow* control = find(record.rows, domain, {ours ? kCepeReader : kFullReader, kind.control}, n);
      std::vector<std::string> cells{kind.label,
                                     tokens_text(n),
                                     std::to_string(control->scored.nll.size()),
                                     std::to_string(control->documents),
                                     ours ? gain_text(*(own->*kind.gain)) : "-",
                                     theirs ? gain_text(*(full->*kind.gain)) : "-",
                                     own ? change_text(own->*kind.difference) : "-"};
      if (several) cells.insert(cells.begin(), domain);
      table.add_row(std::move(cells));
    }
  }
}

std::string gain_table(const PerplexityRecord& record, const std::vector<std::string>& domains) {
  const bool any = std::any_of(record.rows.begin(), record.rows.end(),
                               [](const PerplexityRow& row) { return row.reading_gain || row.same_source_gain; });
  if (!any) return {};
  const bool several = domains.size() > 1;
  std::vector<std::string> header{"gain over", "context tokens", "windows",   "documents",
                                  "cepe",      "full attention", "difference"};
  if (several) header.insert(header.begin(), "domain");
  Table table(header);
  for (const std::string& domain : domains) add_gain_rows(record, domain, several, table);
  return table.str();
}

// One line of the plot; it starts at the row without context: the reader's own, or that which all others share.
PlotSeries make_series(const PerplexityRecord& record, const std::string& domain, const Reading& reading,
                       bool as_change) {
  PlotSeries series;
  auto rows = select(record.rows, domain, reading);
  if (rows.empty()) return series;
  const PerplexityRow* without = find(record.rows, domain, {reading.reader, Control::own}, 0);
  if (!without) without = find(record.rows, domain, kOwn, 0);
  if (without && rows.front() != without) rows.insert(rows.begin(), without);
  for (const PerplexityRow* row : rows) {
    const Estimate change = row->change.value_or(PairedEstimate{});
    series.x.push_back(static_cast<double>(row->scored.context_tokens));
    series.y.push_back(as_change ? 100 * change.value : row->perplexity);
    const double scale = as_change ? 100 : without ? without->perplexity : 0;
    series.error.push_back(scale * change.half_width.value_or(0));
  }
  return series;
}

std::string series_label(const PerplexityRecord& record, const std::string& domain, const Reading& reading) {
  if (reading == kOwn) return "own text through the encoder";
  if (reading.reader == kFullReader) {
    const PerplexityRow* full = longest(record.rows, domain, reading);
    std::string text = "full attention (the frozen, untrained decoder)", gains;
    for (const GainKind& kind : kGains) {  // short: the legend is one line of the plot's width
      const char* over = kind.control == Control::same_source ? "source" : "domain";
      if (!full || !(full->*kind.gain)) continue;
      gains += fmt::format("{}{} ({})", gains.empty() ? ": gains " : ", ", gain_text(*(full->*kind.gain)), over);
    }
    return text + gains;
  }
  if (reading.reader != kCepeReader) return reading.reader;
  const GainKind& kind = kGains[reading.control == Control::same_source ? 1 : 0];
  const PerplexityRow* own = longest(record.rows, domain, kOwn);
  std::string text = reading.control == Control::same_source ? "another document of the same source through the encoder"
                                                             : "another document through the encoder";
  if (own && own->*kind.gain) text += fmt::format(": own text gains {}", gain_text(*(own->*kind.gain)));
  return text;
}

// The lines of a domain's plot: the encoder's own text and controls, and the own text of every other reader.
std::vector<Reading> drawn_readings(const PerplexityRecord& record, const std::string& domain) {
  std::vector<Reading> readings;
  for (const PerplexityRow& row : record.rows) {
    const Reading& reading = row.scored.reading;
    const bool control =
        reading.control == Control::shuffled || (reading.reader != kCepeReader && reading.control != Control::own);
    if (row.scored.domain != domain || control) continue;
    if (std::find(readings.begin(), readings.end(), reading) == readings.end()) readings.push_back(reading);
  }
  return readings;
}

nlohmann::json place_json(const std::optional<ControlPlace>& place) {
  if (!place) return nullptr;
  return {{"document", place->document}, {"end", place->end}};
}

nlohmann::json windows_json(const PerplexityRecord& record) {
  nlohmann::json windows = nlohmann::json::array();
  for (const ScoredWindow& window : record.windows) {
    nlohmann::json& one = windows.emplace_back(
        nlohmann::json{{"domain", window.domain}, {"document", window.document}, {"start", window.start}});
    const auto add = [&](const char* name, const std::optional<ControlPlace>& place, Control control) {
      const auto has = [&](const Reading& reading) { return reading.control == control; };
      if (any_reading(record.rows, has)) one[name] = place_json(place);
    };
    add("other_document", window.other, Control::other_document);
    add("same_source", window.same_source, Control::same_source);
  }
  return windows;
}

// NAME, NAME_error and NAME_interval.
void add_estimate(nlohmann::json& row, const std::string& name, const std::optional<Estimate>& estimate) {
  row[name] = number_or_null(estimate ? std::optional(estimate->value) : std::nullopt);
  row[name + "_error"] = number_or_null(estimate ? estimate->standard_error : std::nullopt);
  row[name + "_interval"] = number_or_null(estimate ? estimate->half_width : std::nullopt);
}

}  // namespace

const char* control_name(Control control) {
  switch (control) {
    case Control::own: return "own";
    case Control::other_document: return "other-document";
    case Control::same_source: return "same-source";
    case Control::shuffled: return "shuffled";
  }
  return "";
}

std::string reading_name(const Reading& reading) {
  const std::string control = control_name(reading.control);
  if (reading.reader == kCepeReader) return control;
  const std::string reader = reading.reader == kFullReader ? "full-window" : reading.reader;
  return reading.control == Control::own ? reader : reader + "-" + control;
}

std::string reading_label(const Reading& reading) {
  if (reading.reader == kCepeReader) return control_label(reading.control);
  const std::string reader = reading.reader == kFullReader ? "full attention" : reading.reader;
  return reader + ": " + control_label(reading.control);
}

std::string perplexity_text(double value) { return fmt::format("{:.{}f}", value, value < 10 ? 3 : 2); }

std::string gain_text(const Estimate& gain) {
  std::string text = fmt::format("{:.1f} %", gain.value * 100);
  if (gain.half_width) text += fmt::format(" +- {:.1f}", *gain.half_width * 100);
  return text;
}

std::string change_text(const std::optional<Estimate>& change) {
  if (!change) return "-";
  return format_change(change->value, change->half_width);
}

std::string legend_of(const PerplexityRecord& record, const std::string& tables) {
  std::string text;
  if (tables.find("+-") != std::string::npos) {
    text = fmt::format(
        "+- is half of the {:.0f} % interval, Student's t over documents; fewer than {} documents have none.\n",
        kIntervalLevel * 100, kLeastClusters);
  } else if (tables.find('%') != std::string::npos) {
    text = fmt::format("Fewer than {} documents give no error bars.\n", kLeastClusters);
  }
  if (any_reading(record.rows, [](const Reading& reading) { return reading == kFullWindow; })) {
    text += "Full attention is the frozen, untrained decoder with the same context in its own window.\n";
  }
  return text;
}

nlohmann::json to_json(const PerplexityRecord& record) {
  nlohmann::json rows = nlohmann::json::array();
  for (const PerplexityRow& row : record.rows) {
    const ScoredRow& scored = row.scored;
    nlohmann::json& one = rows.emplace_back(nlohmann::json{{"domain", scored.domain},
                                                           {"context_tokens", scored.context_tokens},
                                                           {"control", reading_name(scored.reading)},
                                                           {"spans", scored.nll.size()},
                                                           {"documents", row.documents},
                                                           {"perplexity", number_or_null(row.perplexity)},
                                                           {"seconds", scored.seconds},
                                                           {"peak_bytes", scored.peak_bytes},
                                                           {"working_bytes", scored.working_bytes},
                                                           {"windows", scored.windows},
                                                           {"nll", nlohmann::json::array()}});
    for (const double nll : scored.nll) one["nll"].push_back(number_or_null(nll));
    add_estimate(one, "change", row.change);
    add_estimate(one, "reading_gain", row.reading_gain);
    add_estimate(one, "same_source_gain", row.same_source_gain);
    add_estimate(one, "against_full_attention", row.against_full_attention);
    add_estimate(one, "reading_gain_difference", row.reading_gain_difference);
    add_estimate(one, "same_source_gain_difference", row.same_source_gain_difference);
    add_estimate(one, "against_cepe", row.against_cepe);
  }
  return {{"model", record.model},
          {"decoder_tokens", record.decoder_tokens},
          {"scored_tokens", record.scored_tokens},
          {"interval_level", kIntervalLevel},
          {"windows", windows_json(record)},
          {"rows", rows}};
}

std::string to_table(const PerplexityRecord& record) {
  const auto domains = domains_of(record.rows);
  const bool several = domains.size() > 1,
             paired = any_reading(record.rows, [](const Reading& reading) { return reading == kFullWindow; });
  std::vector<std::string> header{"context", "context tokens", "windows",    "perplexity",
                                  "change",  "seconds",        "peak memory"};
  if (paired) header.insert(header.begin() + 5, "against full attention");
  if (several) header.insert(header.begin(), "domain");
  Table table(header);
  for (const PerplexityRow& row : record.rows) {
    std::vector<std::string> cells{row.scored.context_tokens == 0 ? "none" : reading_label(row.scored.reading),
                                   tokens_text(row.scored.context_tokens),
                                   std::to_string(row.scored.nll.size()),
                                   perplexity_text(row.perplexity),
                                   change_text(row.change),
                                   fmt::format("{:.1f}", row.scored.seconds),
                                   format_bytes(row.scored.peak_bytes)};
    if (paired) cells.insert(cells.begin() + 5, change_text(row.against_full_attention));
    if (several) cells.insert(cells.begin(), row.scored.domain);
    table.add_row(std::move(cells));
  }
  const std::string gains = gain_table(record, domains);
  const std::string tables = table.str() + (gains.empty() ? "" : "\n" + gains);
  return tables + legend_of(record, tables);
}

std::string to_sentences(const PerplexityRecord& record) {
  const auto domains = domains_of(record.rows);
  std::string text;
  for (const auto& domain : domains) {
    const PerplexityRow* row = longest(record.rows, domain, kOwn);
    if (!row) row = longest(record.rows, domain, kFullWindow);
    if (!row) continue;
    if (domains.size() > 1) text += domain + ": ";
    text += change_sentence(record, *row, find(record.rows, domain, kOwn, 0));
    const std::string full = full_attention_sentences(record.rows, domain);
    const std::string gains = row->scored.reading == kOwn ? gain_sentences(*row) : "";
    if (gains.empty() && full.empty()) {
      text +=
          " How much of that is reading, how much is adapting to the kind of text and how much is recognising a "
          "project or author, only the controls other-document and same-source can tell.";
    }
    text += gains + full + "\n";
  }
  return text;
}

void write_plot(const PerplexityRecord& record, const std::filesystem::path& path) {
  const auto domains = domains_of(record.rows);
  bool as_change = domains.size() > 1, all_have_zero = true;
  for (const auto& domain : domains) {
    const PerplexityRow* without = find(record.rows, domain, kOwn, 0);
    all_have_zero = all_have_zero && without;
    for (const PerplexityRow* row : select(record.rows, domain, {kCepeReader, Control::same_source})) {
      as_change = as_change || (without && row->scored.nll.size() < without->scored.nll.size());
    }
  }
  as_change = as_change && all_have_zero;
  std::vector<PlotSeries> lines;
  for (const auto& domain : domains) {
    for (const Reading& reading : drawn_readings(record, domain)) {
      PlotSeries line = make_series(record, domain, reading, as_change);
      if (line.x.empty()) continue;
      line.label = series_label(record, domain, reading);
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
