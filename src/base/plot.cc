// The line plot of report.h, drawn as SVG by hand: no plotting library writes so little so well.
#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "base/error.h"
#include "base/output_file.h"
#include "base/report.h"
#include "base/svg.h"

namespace cepe {
namespace {

constexpr double kWidth = 760, kHeight = 460, kLeft = 76, kRight = 24, kTop = 48, kBottom = 60;
constexpr double kLegendLine = 18;
// Okabe and Ito's palette: told apart with every kind of colour vision.
constexpr const char* kColours[] = {"#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"};

// Lines beyond the palette's have its colours again, in dashes.
constexpr const char* kDashes[] = {"", " stroke-dasharray=\"7 4\"", " stroke-dasharray=\"2 3\"",
                                   " stroke-dasharray=\"9 3 2 3\""};

struct Stroke {
  const char *colour, *dashes;
};

Stroke stroke_of(size_t line) {
  return {kColours[line % std::size(kColours)], kDashes[line / std::size(kColours) % std::size(kDashes)]};
}

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  void include(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  void widen_if_empty() {
    if (high > low) return;
    if (low == 0) {  // shares and counts are not negative
      high = 1;
      return;
    }
    double margin = std::abs(low) * 0.05;
    low -= margin;
    high += margin;
  }
};

// Data to picture coordinates, and the tick values of both axes.
struct Axes {
  Range x, y;
  std::vector<double> x_ticks, y_ticks;
  double bottom = 0;  // where the x axis lies; the legend stands below it
  double px(double value) const { return kLeft + (value - x.low) / (x.high - x.low) * (kWidth - kLeft - kRight); }
  double py(double value) const { return bottom - (value - y.low) / (y.high - y.low) * (bottom - kTop); }
};

std::string tick_label(double value) {
  if (std::abs(value) >= 1000 && std::abs(value) < 1e15 && value == std::floor(value)) {
    return (value < 0 ? "-" : "") + format_count(static_cast<uint64_t>(std::abs(value)));
  }
  return fmt::format("{:.6g}", value);
}

// Multiples of 1, 2 or 5 times a power of ten, about `count` of them, inside the range.
std::vector<double> round_ticks(const Range& range, int count) {
  double rough = (range.high - range.low) / count;
  double power = std::pow(10, std::floor(std::log10(rough)));
  double digit = rough / power;
  double step = power * (digit < 1.5 ? 1 : digit < 3.5 ? 2 : digit < 7.5 ? 5 : 10);
  std::vector<double> ticks;
  auto first = static_cast<int64_t>(std::ceil(range.low / step - 1e-9));
  auto last = static_cast<int64_t>(std::floor(range.high / step + 1e-9));
  for (int64_t i = first; i <= last; ++i) ticks.push_back(static_cast<double>(i) * step);
  return ticks;
}

bool drawn(const PlotSeries& series, size_t i) { return std::isfinite(series.x[i]) && std::isfinite(series.y[i]); }

double error_at(const PlotSeries& series, size_t i) {
  return i < series.error.size() && std::isfinite(series.error[i]) ? std::abs(series.error[i]) : 0;
}

Axes make_axes(const std::string& name, const std::vector<PlotSeries>& series) {
  Axes axes;
  std::set<double> xs;
  for (const auto& line : series) {
    require(line.x.size() == line.y.size() && (line.error.empty() || line.error.size() == line.y.size()),
            "{}: the plot's line {} has {} x values, {} y values and {} errors", name, line.label, line.x.size(),
            line.y.size(), line.error.size());
    for (size_t i = 0; i < line.x.size(); ++i) {
      if (!drawn(line, i)) continue;
      xs.insert(line.x[i]);
      axes.x.include(line.x[i]);
      axes.y.include(line.y[i] - error_at(line, i));
      axes.y.include(line.y[i] + error_at(line, i));
    }
  }
  require(!xs.empty(), "{}: the plot has no point to draw", name);
  axes.x.widen_if_empty();
  axes.y.widen_if_empty();
  double margin = (axes.y.high - axes.y.low) * 0.06;
  axes.y.low -= margin;
  axes.y.high += margin;
  axes.y_ticks = round_ticks(axes.y, 6);
  // A measured curve has few x values, worth a tick each; a training curve has hundreds.
  axes.x_ticks = xs.size() <= 12 ? std::vector<double>(xs.begin(), xs.end()) : round_ticks(axes.x, 8);
  axes.bottom = kHeight - kBottom;
  return axes;
}

std::string draw_axes(const Axes& axes, const PlotOptions& options) {
  std::string svg = fmt::format("<text x=\"{}\" y=\"26\" font-size=\"16\" text-anchor=\"middle\">{}</text>\n",
                                kWidth / 2, svg_text(options.title));
  for (double tick : axes.y_ticks) {
    double y = axes.py(tick);
    svg += fmt::format("<line x1=\"{}\" y1=\"{:.1f}\" x2=\"{}\" y2=\"{:.1f}\" stroke=\"#dddddd\"/>\n", kLeft, y,
                       kWidth - kRight, y);
    svg +=
        fmt::format("<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>\n", kLeft - 8, y + 4, tick_label(tick));
  }
  double free_from = -1e9;
  for (double tick : axes.x_ticks) {
    double x = axes.px(tick);
    svg += fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"black\"/>\n", x,
                       axes.bottom, x, axes.bottom + 5);
    std::string label = tick_label(tick);
    double half = static_cast<double>(label.size()) * 3.6;
    if (x - half < free_from) continue;  // the tick stays, a label that would run into its neighbour does not
    free_from = x + half + 4;
    svg +=
        fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{}</text>\n", x, axes.bottom + 19, label);
  }
  svg += fmt::format("<path d=\"M{0} {1} V{2:.1f} H{3}\" fill=\"none\" stroke=\"black\"/>\n", kLeft, kTop, axes.bottom,
                     kWidth - kRight);
  svg += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n", (kLeft + kWidth - kRight) / 2,
                     axes.bottom + 42, svg_text(options.x_label));
  svg += fmt::format("<text transform=\"translate(20 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
                     (kTop + axes.bottom) / 2, svg_text(options.y_label));
  return svg;
}

std::string draw_series(const Axes& axes, const PlotSeries& series, const Stroke& stroke) {
  std::string svg, line, marks;
  bool gap = true;  // a value that is not finite interrupts the line
  for (size_t i = 0; i < series.x.size(); ++i) {
    if (!drawn(series, i)) {
      gap = true;
      continue;
    }
    double x = axes.px(series.x[i]), y = axes.py(series.y[i]);
    line += fmt::format("{}{:.1f} {:.1f} ", gap ? "M" : "L", x, y);
    gap = false;
    if (double error = error_at(series, i); error > 0) {
      double low = axes.py(series.y[i] - error), high = axes.py(series.y[i] + error);
      marks +=
          fmt::format("<path d=\"M{0:.1f} {2:.1f} H{1:.1f} M{3:.1f} {2:.1f} V{4:.1f} M{0:.1f} {4:.1f} H{1:.1f}\"/>\n",
                      x - 4, x + 4, low, x, high);
    }
    if (series.x.size() <= 60) marks += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\"/>\n", x, y);
  }
  svg += fmt::format("<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"{}/>\n", line, stroke.colour,
                     stroke.dashes);
  return svg + fmt::format("<g fill=\"{0}\" stroke=\"{0}\">\n{1}</g>\n", stroke.colour, marks);
}

}  // namespace

std::string svg_text(const std::string& text) {
  std::string result;
  for (char c : printable(text)) {
    switch (c) {
      case '&': result += "&amp;"; break;
      case '<': result += "&lt;"; break;
      case '>': result += "&gt;"; break;
      case '"': result += "&quot;"; break;
      default: result += c;
    }
  }
  return result;
}

std::string svg_plot(const std::string& name, const PlotOptions& options, const std::vector<PlotSeries>& series) {
  Axes axes = make_axes(name, series);
  double height = kHeight + kLegendLine * static_cast<double>(series.size());
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" "
      "font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"{0}\" height=\"{1}\" fill=\"white\"/>\n",
      kWidth, height);
  svg += draw_axes(axes, options);
  for (size_t i = 0; i < series.size(); ++i) {
    const Stroke stroke = stroke_of(i);
    svg += draw_series(axes, series[i], stroke);
    double y = kHeight + kLegendLine * static_cast<double>(i);
    svg += fmt::format("<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" stroke=\"{}\" stroke-width=\"3\"{}/>\n", kLeft, y,
                       kLeft + 24, y, stroke.colour, stroke.dashes);
    svg += fmt::format("<text x=\"{}\" y=\"{}\">{}</text>\n", kLeft + 32, y + 4, svg_text(series[i].label));
  }
  return svg + "</svg>\n";
}

void write_svg_plot(const std::filesystem::path& path, const PlotOptions& options,
                    const std::vector<PlotSeries>& series) {
  write_output(path, svg_plot(path.string(), options, series));
}

}  // namespace cepe
