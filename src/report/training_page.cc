#include "report/training_page.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/error.h"
#include "base/report.h"
#include "report/html.h"

namespace cepe {
namespace {

constexpr size_t kPlotPoints = 2000;

PlotSeries series_of(const std::string& label, const Curve& curve, double factor = 1) {
  const Curve shown = thinned(curve, kPlotPoints);
  PlotSeries series{label, shown.steps, shown.values, {}};
  for (double& value : series.y) value *= factor;
  return series;
}

// About fifty windows a run: short runs keep their shape, long ones lose their noise.
size_t smoothing_window(const TrainingRun& run) { return std::clamp<size_t>(run.loss.values.size() / 50, 1, 200); }

// A plot over steps; nothing where no value is finite.
std::string plot_over_steps(const std::string& title, const std::string& y_label,
                            const std::vector<PlotSeries>& lines) {
  const auto is_finite = [](double value) { return std::isfinite(value); };
  const bool any = std::any_of(lines.begin(), lines.end(), [&](const PlotSeries& line) {
    return std::any_of(line.y.begin(), line.y.end(), is_finite);
  });
  return any ? svg_plot(title, {title, "step", y_label}, lines) : "";
}

std::string loss_plots(const TrainingRun& run) {
  const size_t window = smoothing_window(run);
  std::vector<PlotSeries> lines = {series_of("each step", run.loss)}, parts;
  const std::string mean = window > 1 ? fmt::format("mean of {} steps", window) : "each step";
  if (window > 1) lines.push_back(series_of(mean, smoothed(run.loss, window)));
  for (const auto& [label, curve] : {std::pair("text", &run.loss_text), std::pair("answers", &run.loss_answers)}) {
    if (!curve->values.empty()) parts.push_back(series_of(label + (", " + mean), smoothed(*curve, window)));
  }
  return plot_over_steps("Training loss", "nats a token", lines) +
         plot_over_steps("Training loss of text and of answers", "nats a token", parts);
}

std::string step_plots(const TrainingRun& run) {
  const size_t window = smoothing_window(run);
  std::vector<PlotSeries> norms = {series_of("each step", run.gradient_norm)};
  if (window > 1)
    norms.push_back(series_of(fmt::format("mean of {} steps", window), smoothed(run.gradient_norm, window)));
  return "<h3>Steps</h3>\n" +
         plot_over_steps("Learning rate", "learning rate", {series_of("each step", run.learning_rate)}) +
         plot_over_steps("Gradient norm, before clipping", "norm", norms) +
         plot_over_steps("Speed", "tokens a second", {series_of("each step", run.tokens_per_second)}) +
         plot_over_steps("Model FLOP utilisation (MFU)", "percent", {series_of("each step", run.mfu, 100)});
}

// The same, but nothing of a single validation, which the table shows.
std::string plot_over_validations(const std::string& title, const std::string& y_label,
                                  const std::vector<PlotSeries>& lines) {
  const bool several =
      std::any_of(lines.begin(), lines.end(), [](const PlotSeries& line) { return line.x.size() > 1; });
  return several ? plot_over_steps(title, y_label, lines) : "";
}

HtmlCell number_cell(const Curve& curve, int digits, double factor = 1) {
  if (curve.values.empty()) return {""};
  const double value = curve.values.back() * factor;
  return {fmt::format("{:.{}f}", value, digits), value};
}

HtmlCell plain_count_cell(int64_t count) { return {fmt::format("{}", count), static_cast<double>(count)}; }

// The heading of a kind of validation, and which one its table shows.
std::string validation_heading(const std::string& title, const Curve& curve) {
  if (curve.steps.empty()) return "<h3>" + title + "</h3>\n";
  const std::string others = curve.steps.size() > 1 ? fmt::format(", the last of {}", curve.steps.size()) : "";
  return fmt::format("<h3>{}</h3>\n<p>After step {:.0f}{}.</p>\n", title, curve.steps.back(), others);
}

std::string validation_part(const TrainingRun& run) {
  if (run.validation.empty()) return "";
  HtmlTable table({"domain", "samples", "loss with context", "loss without", "reading gain (%)"});
  std::vector<PlotSeries> losses, gains;
  for (const auto& [domain, values] : run.validation) {
    table.add_row({{domain},
                   plain_count_cell(values.samples),
                   number_cell(values.loss, 4),
                   number_cell(values.no_context, 4),
                   number_cell(values.reading_gain, 2, 100)});
    losses.push_back(series_of(domain, values.loss));
    if (!values.reading_gain.values.empty()) gains.push_back(series_of(domain, values.reading_gain, 100));
  }
  return validation_heading("Validation on documents", run.validation.rbegin()->second.loss) + table.str() +
         plot_over_validations("Validation loss with context", "nats a token", losses) +
         plot_over_validations("Reading gain over another document's context", "percent", gains);
}

// Contexts of more than a quarter of so many chunks, and no more.
std::string size_label(int64_t chunks) {
  return chunks <= 1 ? "1 chunk" : fmt::format("{} to {} chunks", chunks / 4 + 1, chunks);
}

std::string ask_validation_part(const TrainingRun& run) {
  if (run.ask_validation.empty()) return "";
  std::set<int64_t> sizes;
  for (const auto& [kind, values] : run.ask_validation) {
    for (const auto& [chunks, of_size] : values.by_chunks) sizes.insert(chunks);
  }
  std::vector<std::string> header = {"kind", "samples", "loss", "exact (%)"};
  for (const int64_t chunks : sizes) header.push_back(size_label(chunks) + ": exact (%), samples");
  HtmlTable table(header);
  std::vector<PlotSeries> exact, exact_of_size;
  for (const auto& [kind, values] : run.ask_validation) {
    std::vector<HtmlCell> row = {
        {kind}, plain_count_cell(values.samples), number_cell(values.loss, 4), number_cell(values.exact, 1, 100)};
    for (const int64_t chunks : sizes) {
      const auto found = values.by_chunks.find(chunks);
      row.push_back(found == values.by_chunks.end() ? HtmlCell{""} : number_cell(found->second.exact, 1, 100));
      if (row.back().number) row.back().text += fmt::format(" ({})", found->second.samples);
    }
    table.add_row(std::move(row));
    exact.push_back(series_of(kind, values.exact, 100));
  }
  if (const auto all = run.ask_validation.find("all"); all != run.ask_validation.end()) {
    for (const auto& [chunks, of_size] : all->second.by_chunks) {
      exact_of_size.push_back(series_of(size_label(chunks), of_size.exact, 100));
    }
  }
  return validation_heading("Validation on samples", run.ask_validation.rbegin()->second.loss) +
         "<p>Exact are samples of which each token of the answer is the most likely one: greedy decoding would write "
         "it.</p>\n" +
         table.str() + plot_over_validations("Samples answered exactly, by kind", "percent", exact) +
         plot_over_validations("Samples answered exactly, by chunks of context", "percent", exact_of_size);
}

std::string text_validation_part(const TrainingRun& run) {
  if (run.text_validation.empty()) return "";
  HtmlTable table({"domain", "samples", "loss", "accuracy (%)"});
  std::vector<PlotSeries> losses, accuracies;
  for (const auto& [domain, values] : run.text_validation) {
    table.add_row({{domain},
                   plain_count_cell(values.samples),
                   number_cell(values.loss, 4),
                   number_cell(values.accuracy, 1, 100)});
    losses.push_back(series_of(domain, values.loss));
    if (!values.accuracy.values.empty()) accuracies.push_back(series_of(domain, values.accuracy, 100));
  }
  return validation_heading("Validation on text", run.text_validation.rbegin()->second.loss) + table.str() +
         plot_over_validations("Validation loss", "nats a token", losses) +
         plot_over_validations("Masked tokens found", "percent", accuracies);
}

// What the run has done so far, in a sentence or two.
std::string state_of(const TrainingRun& run) {
  if (run.loss.steps.empty()) return "cepe train: no step yet.";
  const double step = run.loss.steps.back();
  const bool ended = run.of_steps == 0 || step >= static_cast<double>(run.of_steps);
  std::string text = fmt::format("cepe train: {:.0f}{} steps, {} tokens, {} of steps; last loss {:.4f}.", step,
                                 ended ? "" : fmt::format(" of {}", run.of_steps),
                                 format_count(static_cast<uint64_t>(std::max<int64_t>(run.tokens, 0))),
                                 format_seconds(run.seconds), run.loss.values.back());
  if (!ended && run.seconds_left && std::isfinite(*run.seconds_left)) {
    text += fmt::format(" About {} of steps are left.", format_seconds(*run.seconds_left));
  }
  if (run.not_finite > 0) {
    text += fmt::format(" Steps left out, whose loss or gradient was not finite: {}.", run.not_finite);
  }
  return text;
}

// Curves of several runs in one picture each.
PlotSeries of_run(const TrainingRun& run, const Curve& curve, double factor = 1) {
  return series_of(run.name, curve, factor);
}

}  // namespace

std::string trainings_together(const std::vector<TrainingRun>& runs) {
  if (runs.size() < 2) return "";
  std::vector<PlotSeries> losses, gains, exact, text;
  for (const TrainingRun& run : runs) {
    losses.push_back(of_run(run, smoothed(run.loss, smoothing_window(run))));
    if (const auto all = run.validation.find("all"); all != run.validation.end()) {
      gains.push_back(of_run(run, all->second.reading_gain, 100));
    }
    if (const auto all = run.ask_validation.find("all"); all != run.ask_validation.end()) {
      exact.push_back(of_run(run, all->second.exact, 100));
    }
    if (const auto all = run.text_validation.find("all"); all != run.text_validation.end()) {
      text.push_back(of_run(run, all->second.loss));
    }
  }
  const std::string plots = plot_over_steps("Training loss, smoothed", "nats a token", losses) +
                            plot_over_steps("Reading gain, all domains", "percent", gains) +
                            plot_over_steps("Samples answered exactly, all kinds", "percent", exact) +
                            plot_over_steps("Validation loss on text, all domains", "nats a token", text);
  return plots.empty()
             ? ""
             : "<section id=\"trainings-together\"><h2>Training runs together</h2>\n" + plots + "</section>\n";
}

std::string training_section(const TrainingRun& run) {
  std::string html = fmt::format("<section id=\"{}\"><h2>{}</h2>\n<p>{}</p>\n<p class=\"path\">{}</p>\n", run.anchor,
                                 html_text(run.name), html_text(state_of(run)), html_text(run.directory.string()));
  html += loss_plots(run);
  html += validation_part(run) + ask_validation_part(run) + text_validation_part(run);
  if (run.validation.empty() && run.ask_validation.empty() && run.text_validation.empty()) {
    html += "<p>The log holds no validation.</p>\n";
  }
  if (!run.loss.steps.empty()) html += step_plots(run);
  return html + html_folded("Configuration", "<pre>" + html_text(run.configuration) + "</pre>\n") + "</section>\n";
}

}  // namespace cepe
