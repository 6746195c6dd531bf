// The heat map of report.h, as SVG.
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/output_file.h"
#include "base/report.h"
#include "base/svg.h"

namespace cepe {
namespace {

constexpr double kCellWidth = 72, kCellHeight = 36, kLeft = 96, kRight = 24, kTop = 48, kBottom = 60;

// From vermilion through yellow to green (Okabe and Ito's), linear between them; light enough for black digits.
std::string colour(double value) {
  struct Rgb {
    double red, green, blue;
  };
  constexpr Rgb kStops[] = {{0xD5, 0x5E, 0x00}, {0xF0, 0xE4, 0x42}, {0x00, 0x9E, 0x73}};
  const double place = 2 * std::clamp(value, 0.0, 1.0);
  const size_t stop = place < 1 ? 0 : 1;
  const double share = place - static_cast<double>(stop);
  const auto mixed = [&](double from, double to) { return static_cast<int>(std::lround(from + (to - from) * share)); };
  const Rgb &a = kStops[stop], &b = kStops[stop + 1];
  return fmt::format("#{:02X}{:02X}{:02X}", mixed(a.red, b.red), mixed(a.green, b.green), mixed(a.blue, b.blue));
}

std::string draw_cells(const HeatMap& map) {
  std::string svg;
  for (size_t row = 0; row < map.y.size(); ++row) {
    for (size_t column = 0; column < map.x.size(); ++column) {
      const double x = kLeft + kCellWidth * static_cast<double>(column);
      const double y = kTop + kCellHeight * static_cast<double>(row);
      const std::optional<double>& value = map.values[row][column];
      svg += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\" stroke=\"white\"/>\n", x, y,
                         kCellWidth, kCellHeight, value ? colour(*value) : "#eeeeee");
      if (!value) continue;
      svg += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{:.0f}</text>\n", x + kCellWidth / 2,
                         y + kCellHeight / 2 + 4, 100 * *value);
    }
  }
  return svg;
}

}  // namespace

void write_svg_heat_map(const std::filesystem::path& path, const HeatMap& map) {
  const bool whole =
      map.values.size() == map.y.size() &&
      std::all_of(map.values.begin(), map.values.end(), [&](const auto& row) { return row.size() == map.x.size(); });
  require(whole && !map.x.empty() && !map.y.empty(),
          "{}: the heat map has {} columns and {} rows, but not so many values", path.string(), map.x.size(),
          map.y.size());
  const double right = kLeft + kCellWidth * static_cast<double>(map.x.size());
  const double bottom = kTop + kCellHeight * static_cast<double>(map.y.size());
  const double width = std::max(right + kRight, 420.0);
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" "
      "font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"{0}\" height=\"{1}\" fill=\"white\"/>\n",
      width, bottom + kBottom);
  svg += fmt::format("<text x=\"{}\" y=\"26\" font-size=\"16\" text-anchor=\"middle\">{}</text>\n", width / 2,
                     svg_text(map.options.title));
  svg += draw_cells(map);
  for (size_t row = 0; row < map.y.size(); ++row) {
    svg += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n", kLeft - 8,
                       kTop + kCellHeight * (static_cast<double>(row) + 0.5) + 4, svg_text(map.y[row]));
  }
  for (size_t column = 0; column < map.x.size(); ++column) {
    svg += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
                       kLeft + kCellWidth * (static_cast<double>(column) + 0.5), bottom + 19, svg_text(map.x[column]));
  }
  svg += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n", (kLeft + right) / 2, bottom + 42,
                     svg_text(map.options.x_label));
  svg += fmt::format("<text transform=\"translate(20 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
                     (kTop + bottom) / 2, svg_text(map.options.y_label));
  write_output(path, svg + "</svg>\n");
}

}  // namespace cepe
