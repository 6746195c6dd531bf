#include "base/report.h"

#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "base/error.h"

namespace cepe {
namespace {

// Columns a terminal gives the text: code points, which is right for all that cepe prints itself.
size_t display_width(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

// Bytes of the UTF-8 character at the begin of the text, 0 where there is none (Unicode standard, table 3-7).
size_t character_size(std::string_view text) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto continues = [&](size_t i) { return (byte(i) & 0xC0) == 0x80; };
  const unsigned first = byte(0), second = byte(1);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return continues(1) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    const bool overlong = first == 0xE0 && second < 0xA0, surrogate = first == 0xED && second > 0x9F;
    return continues(1) && continues(2) && !overlong && !surrogate ? 3 : 0;
  }
  if (first < 0xF0 || first > 0xF4) return 0;
  const bool overlong = first == 0xF0 && second < 0x90, beyond = first == 0xF4 && second > 0x8F;
  return continues(1) && continues(2) && continues(3) && !overlong && !beyond ? 4 : 0;
}

// Unicode's general category Cc: C0, DEL and C1.
bool is_control(std::string_view character) {
  const auto first = static_cast<unsigned char>(character[0]);
  return first < 0x20 || first == 0x7F ||
         (character.size() == 2 && first == 0xC2 && static_cast<unsigned char>(character[1]) < 0xA0);
}

size_t terminal_columns() {
  constexpr size_t kUnknown = 80;
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : kUnknown;
}

// "12", "-3.52 % +- 0.41", "1.25 GB", "134,515,008"; not "7b-instruct".
bool looks_numeric(const std::string& cell) {
  size_t i = !cell.empty() && (cell[0] == '-' || cell[0] == '+') ? 1 : 0;
  if (i >= cell.size() || cell[i] < '0' || cell[i] > '9') return false;
  i = cell.find_first_not_of("0123456789.,", i);
  if (i != std::string::npos && (cell[i] == 'e' || cell[i] == 'E')) i = cell.find_first_not_of("0123456789+-", i + 1);
  return i == std::string::npos || cell[i] == ' ' || cell[i] == '%';
}

bool is_placeholder(const std::string& cell) { return cell.empty() || cell == "-" || cell == "n/a"; }

// One line of cells; the last column gets no trailing spaces.
std::string aligned_line(const std::vector<std::string>& cells, const std::vector<size_t>& widths,
                         const std::vector<bool>& right) {
  std::string line;
  for (size_t c = 0; c < cells.size(); ++c) {
    std::string padding(widths[c] - display_width(cells[c]), ' ');
    line += (c ? "  " : "") + (right[c] ? padding + cells[c] : cells[c] + padding);
  }
  line.erase(line.find_last_not_of(' ') + 1);
  return line + "\n";
}

}  // namespace

std::string format_seconds(double seconds) {
  auto whole = static_cast<int64_t>(std::llround(seconds));
  if (whole < 120) return fmt::format("{} s", whole);
  if (whole < 7200) return fmt::format("{} min {} s", whole / 60, whole % 60);
  return fmt::format("{} h {} min", whole / 3600, whole % 3600 / 60);
}

std::string printable(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const size_t size = character_size(text);
    const std::string_view character = text.substr(0, std::max<size_t>(size, 1));
    text.remove_prefix(character.size());
    if (size > 0 && !is_control(character)) {
      out += character;
    } else if (character == "\n") {
      out += "\\n";
    } else if (character == "\t") {
      out += "\\t";
    } else {
      for (const char c : character) out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  return out;
}

std::string printable_lines(std::string_view text) {
  std::string out;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    out += printable(text.substr(begin, end - begin));
    if (end < text.size()) out += '\n';
    begin = end + 1;
  }
  return out;
}

void Table::add_row(std::vector<std::string> cells) {
  require(cells.size() == header_.size(), "a table of {} columns was given a row of {} cells", header_.size(),
          cells.size());
  for (std::string& cell : cells) cell = printable(cell);
  rows_.push_back(std::move(cells));
}

std::vector<bool> Table::number_columns() const {
  std::vector<bool> right(header_.size());
  for (size_t c = 0; c < header_.size(); ++c) {
    bool numeric = false, text = false;
    for (const auto& row : rows_) (looks_numeric(row[c]) ? numeric : text) |= !is_placeholder(row[c]);
    right[c] = numeric && !text;
  }
  return right;
}

std::string Table::markdown() const {
  const std::vector<bool> right = number_columns();
  const auto line = [](const std::vector<std::string>& cells) {
    std::string text = "|";
    for (const std::string& cell : cells) {
      text += ' ';
      for (const char c : cell) text += c == '|' ? "\\|" : std::string(1, c);
      text += " |";
    }
    return text + "\n";
  };
  std::string result = line(header_) + "|";
  for (const bool number : right) result += number ? "---:|" : "---|";
  result += "\n";
  for (const auto& row : rows_) result += line(row);
  return result;
}

std::string Table::str() const {
  const size_t columns = header_.size();
  std::vector<size_t> widths(columns);
  for (size_t c = 0; c < columns; ++c) {
    widths[c] = display_width(header_[c]);
    for (const auto& row : rows_) widths[c] = std::max(widths[c], display_width(row[c]));
  }
  const std::vector<bool> right = number_columns();
  std::string result = aligned_line(header_, widths, right);
  for (size_t c = 0; c < columns; ++c) result += (c ? "  " : "") + std::string(widths[c], '-');
  result += "\n";
  for (const auto& row : rows_) result += aligned_line(row, widths, right);
  return result;
}

Progress::Progress(std::string label, int64_t total)
    : label_(std::move(label)), total_(total), started_(seconds_now()), terminal_(::isatty(STDERR_FILENO) == 1) {
  draw(false);
}

// An interrupted job leaves the bar where it stood, and the next message on a line of its own.
Progress::~Progress() { draw(true); }

void Progress::advance(int64_t steps) {
  done_ = std::min(total_, done_ + steps);
  draw(false);
}

void Progress::draw(bool last) {
  if (last) {
    if (terminal_) std::fputc('\n', stderr);
    return;
  }
  int64_t percent = total_ > 0 ? done_ * 100 / total_ : 100;
  if (!terminal_) percent -= percent % 10;
  if (percent == shown_percent_) return;
  shown_percent_ = percent;
  double elapsed = seconds_now() - started_;
  std::string time;
  if (done_ >= total_) {
    time = format_seconds(elapsed);
  } else if (done_ > 0) {
    time = fmt::format("{}, {} left", format_seconds(elapsed),
                       format_seconds(elapsed * static_cast<double>(total_ - done_) / static_cast<double>(done_)));
  }
  std::string line;
  if (terminal_) {
    line = "\r" + bar_line(percent, time) + "\x1b[K";
  } else {
    line = time.empty() ? fmt::format("{}: {} %\n", label_, percent)
                        : fmt::format("{}: {} % ({})\n", label_, percent, time);
  }
  std::fputs(line.c_str(), stderr);
  std::fflush(stderr);
}

// At most as wide as the terminal: a line that wraps cannot be redrawn in place.
std::string Progress::bar_line(int64_t percent, const std::string& time) const {
  constexpr size_t kWidest = 30, kNarrowest = 5;
  const size_t columns = terminal_columns() - 1;  // the last one stays free: some terminals wrap when it is written
  const std::string numbers = fmt::format("{:3} % {}", percent, time);
  const size_t beside = label_.size() + 4 + numbers.size();  // " [" and "] "
  std::string line = label_ + " " + numbers;
  if (columns >= beside + kNarrowest) {
    const size_t width = std::min(kWidest, columns - beside);
    const std::string bar(static_cast<size_t>(percent) * width / 100, '#');
    line = fmt::format("{} [{:.<{}}] {}", label_, bar, width, numbers);
  }
  return line.substr(0, columns);
}

std::string format_bytes(uint64_t bytes) {
  static const char* const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
  if (bytes < 1000) return fmt::format("{} B", bytes);
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  // 999.5 and above would round to four digits.
  while (value >= 999.5 && unit + 1 < std::size(units)) {
    value /= 1000;
    ++unit;
  }
  int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return fmt::format("{:.{}f} {}", value, decimals, units[unit]);
}

std::string format_count(uint64_t count) {
  std::string digits = std::to_string(count);
  for (size_t end = digits.size(); end > 3; end -= 3) digits.insert(end - 3, ",");
  return digits;
}

std::string format_percent(double fraction) {
  if (!std::isfinite(fraction)) return "n/a";
  double percent = fraction * 100;
  return fmt::format("{:+.1f} %", std::abs(percent) < 0.05 ? 0.0 : percent);
}

std::string format_change(double change, std::optional<double> standard_error) {
  if (!std::isfinite(change)) return "n/a";
  double percent = change * 100;
  std::string text = fmt::format("{:+.2f} %", std::abs(percent) < 0.005 ? 0.0 : percent);
  if (standard_error && std::isfinite(*standard_error)) text += fmt::format(" +- {:.2f}", *standard_error * 100);
  return text;
}

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

uint64_t peak_resident_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM:", 0) == 0) return std::strtoull(line.c_str() + 6, nullptr, 10) * 1024;
  }
  rusage usage{};  // no /proc: the same mark, but one that cannot be reset
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

void reset_peak_resident_bytes() {
  std::ofstream clear("/proc/self/clear_refs");
  clear << "5";
}

}  // namespace cepe
