#include "report/training_page.h"

#include <algorithm>
#include <cmath>

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
  // About fifty windows a run: short runs keep their shape, long ones lose their noise.
  const size_t window = std::clamp<size_t>(run.loss.values.size() / 50, 1, 200);
  std::vector<PlotSeries> lines = {series_of("each step", run.loss)}, parts;
  const std::string mean = fmt::format("mean of {} steps", window);
  if (window > 1) lines.push_back(series_of(mean, smoothed(run.loss, window)));
  for (const auto& [label, curve] : {std::pair("text", &run.loss_text), std::pair("answers", &run.loss_answers)}) {
    if (!curve->values.empty()) parts.push_back(series_of(label + (", " + mean), smoothed(*curve, window)));
  }
  return plot_over_steps("Loss", "nats a token", lines) +
         plot_over_steps("Loss of text and of answers", "nats a token", parts);
}

HtmlCell number_cell(const Curve& curve, int digits, double factor = 1) {
  if (curve.values.empty()) return {""};
  const double value = curve.values.back() * factor;
  return {fmt::format("{:.{}f}", value, digits), value};
}

HtmlCell count_cell(int64_t count) { return {fmt::format("{}", count), static_cast<double>(count)}; }

std::string validation_part(const TrainingRun& run) {
  if (run.validation.empty()) return "";
  HtmlTable table({"domain", "samples", "loss with context", "loss without", "reading gain (%)"});
  std::vector<PlotSeries> losses, gains;
  for (const auto& [domain, values] : run.validation) {
    table.add_row({{domain},
                   count_cell(values.samples),
                   number_cell(values.loss, 4),
                   number_cell(values.no_context, 4),
                   number_cell(values.reading_gain, 2, 100)});
    losses.push_back(series_of(domain, values.loss));
    if (!values.reading_gain.values.empty()) gains.push_back(series_of(domain, values.reading_gain, 100));
  }
  return "<h3>Validation on documents</h3>\n<p>The last values:</p>\n" + table.str() +
         plot_over_steps("Validation loss with context", "nats a token", losses) +
         plot_over_steps("Reading gain", "percent", gains);
}

std::string ask_validation_part(const TrainingRun& run) {
  if (run.ask_validation.empty()) return "";
  HtmlTable table({"kind", "samples", "loss", "exact (%)"});
  std::vector<PlotSeries> exact;
  for (const auto& [kind, values] : run.ask_validation) {
    table.add_row({{kind}, count_cell(values.samples), number_cell(values.loss, 4), number_cell(values.exact, 1, 100)});
    exact.push_back(series_of(kind, values.exact, 100));
  }
  return "<h3>Validation on samples</h3>\n<p>The last values:</p>\n" + table.str() +
         plot_over_steps("Samples answered exactly", "percent", exact);
}

std::string text_validation_part(const TrainingRun& run) {
  if (run.text_validation.empty()) return "";
  HtmlTable table({"domain", "samples", "loss", "accuracy (%)"});
  std::vector<PlotSeries> losses, accuracies;
  for (const auto& [domain, values] : run.text_validation) {
    table.add_row(
        {{domain}, count_cell(values.samples), number_cell(values.loss, 4), number_cell(values.accuracy, 1, 100)});
    losses.push_back(series_of(domain, values.loss));
    if (!values.accuracy.values.empty()) accuracies.push_back(series_of(domain, values.accuracy, 100));
  }
  return "<h3>Validation on text</h3>\n<p>The last values:</p>\n" + table.str() +
         plot_over_steps("Validation loss", "nats a token", losses) +
         plot_over_steps("Masked tokens found", "percent", accuracies);
}

}  // namespace

std::string training_section(const TrainingRun& run) {
  std::string line = "cepe train: no step yet.";
  if (!run.loss.steps.empty()) {
    line = fmt::format("cepe train: {:.0f} steps, {} tokens, {} of steps; last loss {:.4f}.", run.loss.steps.back(),
                       format_count(static_cast<uint64_t>(std::max<int64_t>(run.tokens, 0))),
                       format_seconds(run.seconds), run.loss.values.back());
  }
  std::string html = fmt::format("<section id=\"{}\"><h2>{}</h2>\n<p>{}</p>\n<p class=\"path\">{}</p>\n", run.anchor,
                                 html_text(run.name), html_text(line), html_text(run.directory.string()));
  html += loss_plots(run);
  html += plot_over_steps("Learning rate", "learning rate", {series_of("each step", run.learning_rate)});
  html += plot_over_steps("Speed", "tokens a second", {series_of("each step", run.tokens_per_second)});
  html += validation_part(run) + ask_validation_part(run) + text_validation_part(run);
  return html + html_folded("Configuration", "<pre>" + html_text(run.configuration) + "</pre>\n") + "</section>\n";
}

}  // namespace cepe
