// What a command shows a person: tables, a progress bar, plots, and numbers with units.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cepe {

// The text as one line that is safe to show: control characters and bytes that are not UTF-8 become \n, \t or \xNN.
// Names and texts from files go through it before they reach a terminal or a picture.
std::string printable(std::string_view text);
// The same for a text of several lines: its line breaks stay.
std::string printable_lines(std::string_view text);

// A table of text cells, columns aligned (numbers to the right), printed with a rule under the header. Cells are shown
// as printable() makes them.
class Table {
 public:
  explicit Table(std::vector<std::string> header) : header_(std::move(header)) {}
  void add_row(std::vector<std::string> cells);  // throws Error when the count differs from the header's
  std::string str() const;
  std::string markdown() const;  // the same as a Markdown table: numbers are to the right, bars in cells are escaped

 private:
  std::vector<bool> number_columns() const;
  std::vector<std::string> header_;
  std::vector<std::vector<std::string>> rows_;
};

// A progress bar on standard error: redrawn in place on a terminal, within its width; a line every ten percent
// elsewhere.
class Progress {
 public:
  Progress(std::string label, int64_t total);
  ~Progress();
  void advance(int64_t steps = 1);

 private:
  void draw(bool last);
  std::string bar_line(int64_t percent, const std::string& time) const;
  std::string label_;
  int64_t total_, done_ = 0, shown_percent_ = -1;
  double started_;
  bool terminal_;
};

// One line of a plot: points (x, y), and optionally one standard error a point.
struct PlotSeries {
  std::string label;
  std::vector<double> x, y, error;
};
struct PlotOptions {
  std::string title, x_label, y_label;
};
// A line plot as SVG: axes with round ticks, a legend, error bars, ticks at the x values. Errors call it by the name.
std::string svg_plot(const std::string& name, const PlotOptions& options, const std::vector<PlotSeries>& series);
// The same into a file, as write_output does.
void write_svg_plot(const std::filesystem::path& path, const PlotOptions& options,
                    const std::vector<PlotSeries>& series);

// Shares of one over two lists of names, such as scores over depth and length.
struct HeatMap {
  PlotOptions options;
  std::vector<std::string> x, y;                           // names of the columns and rows, the first row at the top
  std::vector<std::vector<std::optional<double>>> values;  // [row][column], from 0 to 1; absent: an empty cell
};
// Writes a heat map as SVG (as write_output does): a coloured cell with its percent for each value.
void write_svg_heat_map(const std::filesystem::path& path, const HeatMap& map);

std::string format_bytes(uint64_t bytes);     // "1.25 GB": powers of 1000
std::string format_count(uint64_t count);     // "134,515,008"
std::string format_seconds(double seconds);   // "75 s", "12 min 5 s", "3 h 20 min"
std::string format_percent(double fraction);  // "-3.5 %"; with a sign
// "-3.52 % +- 0.41": change and standard error, both fractions.
std::string format_change(double change, std::optional<double> standard_error);

double seconds_now();              // a monotonic clock
uint64_t peak_resident_bytes();    // the process's high-water mark (VmHWM)
void reset_peak_resident_bytes();  // starts a new mark where the kernel allows it (/proc/self/clear_refs)

}  // namespace cepe
