#include "base/report.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "base/file.h"
#include "base/temporary_directory.h"

namespace cepe {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Table, AlignsTextLeftAndNumbersRight) {
  Table table({"model", "context", "change"});
  table.add_row({"gr\u00fcn", "0", "-"});
  table.add_row({"7b", "30,720", "-3.52 % +- 0.41"});
  EXPECT_EQ(table.str(),
            "model  context           change\n"
            "-----  -------  ---------------\n"
            "gr\u00fcn         0                -\n"
            "7b      30,720  -3.52 % +- 0.41\n");
  EXPECT_EQ(error_of<Error>([&] { table.add_row({"one"}); }), "a table of 3 columns was given a row of 1 cells");
}

TEST(Printable, EscapesControlCharactersAndWhatIsNotUtf8) {
  EXPECT_EQ(printable("gr\u00fcn \u4e2d \U0001f600 a\\b"), "gr\u00fcn \u4e2d \U0001f600 a\\b");
  EXPECT_EQ(printable("a\nb\tc\x1b[31m\x7f\r"), "a\\nb\\tc\\x1b[31m\\x7f\\x0d");
  EXPECT_EQ(printable(std::string_view("\0", 1)), "\\x00");
  EXPECT_EQ(printable("\u009b31m"), "\\xc2\\x9b31m");  // C1: a terminal may take it for ESC [
  EXPECT_EQ(printable("\u00a0"), "\u00a0");
  EXPECT_EQ(printable("caf\xe9"), "caf\\xe9");
  // Overlong, a surrogate, beyond U+10FFFF, and characters that break off.
  EXPECT_EQ(printable("\xc0\xaf|\xed\xa0\x80|\xf4\x90\x80\x80|\xe4\xb8"),
            "\\xc0\\xaf|\\xed\\xa0\\x80|\\xf4\\x90\\x80\\x80|\\xe4\\xb8");
  EXPECT_EQ(printable_lines("one\n\ttwo\n"), "one\n\\ttwo\n");
}

TEST(Table, IsMarkdownAsWell) {
  Table table({"model", "context"});
  table.add_row({"a|b", "8,192"});
  table.add_row({"line\nbreak", "-"});
  EXPECT_EQ(table.markdown(), "| model | context |\n|---|---:|\n| a\\|b | 8,192 |\n| line\\nbreak | - |\n");
}

TEST(Table, ShowsNamesFromFilesOnOneLine) {
  Table table({"name", "size"});
  table.add_row({"a\x1b[2J\nb", "1"});
  EXPECT_EQ(table.str(),
            "name         size\n"
            "-----------  ----\n"
            "a\\x1b[2J\\nb     1\n");
}

TEST(Format, Numbers) {
  EXPECT_EQ(format_bytes(999), "999 B");
  EXPECT_EQ(format_bytes(1000), "1.00 kB");
  EXPECT_EQ(format_bytes(1'250'000'000), "1.25 GB");
  EXPECT_EQ(format_bytes(48'300'000), "48.3 MB");
  EXPECT_EQ(format_bytes(999'400), "999 kB");
  EXPECT_EQ(format_bytes(999'999), "1.00 MB");
  EXPECT_EQ(format_bytes(std::numeric_limits<uint64_t>::max()), "18.4 EB");
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(999), "999");
  EXPECT_EQ(format_count(134515008), "134,515,008");
  EXPECT_EQ(format_percent(-0.035), "-3.5 %");
  EXPECT_EQ(format_percent(0.12), "+12.0 %");
  EXPECT_EQ(format_percent(-0.0001), "+0.0 %");
  EXPECT_EQ(format_percent(NAN), "n/a");
  EXPECT_EQ(format_change(-0.0352, 0.0041), "-3.52 % +- 0.41");
  EXPECT_EQ(format_change(0.01, std::nullopt), "+1.00 %");
}

TEST(Progress, PrintsALineEveryTenPercentWithoutATerminal) {
  testing::internal::CaptureStderr();
  {
    Progress progress("encode", 40);
    for (int i = 0; i < 40; ++i) progress.advance();
  }
  std::string text = testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 11);
  EXPECT_EQ(text.rfind("encode: 0 %\nencode: 10 % (0 s, 0 s left)\n", 0), 0u) << text;
  EXPECT_THAT(text, HasSubstr("encode: 100 % (0 s)\n"));
  EXPECT_THAT(text, Not(HasSubstr("\r")));
}

// What a progress bar of two steps writes to a terminal of a width; 0: a terminal that does not tell.
std::string bar_on_terminal(unsigned short columns) {
  int terminal = posix_openpt(O_RDWR | O_NOCTTY);
  EXPECT_GE(terminal, 0);
  EXPECT_EQ(grantpt(terminal) | unlockpt(terminal), 0);
  int user_side = open(ptsname(terminal), O_RDWR | O_NOCTTY);
  EXPECT_GE(user_side, 0);
  const winsize size{.ws_row = 24, .ws_col = columns, .ws_xpixel = 0, .ws_ypixel = 0};
  EXPECT_EQ(ioctl(user_side, TIOCSWINSZ, &size), 0);
  int saved = dup(STDERR_FILENO);
  dup2(user_side, STDERR_FILENO);
  {
    Progress progress("encode", 2);
    progress.advance();
    progress.advance();
  }
  dup2(saved, STDERR_FILENO);
  std::string text;
  pollfd arrived{.fd = terminal, .events = POLLIN, .revents = 0};
  while (text.find('\n') == std::string::npos && poll(&arrived, 1, /*milliseconds=*/5000) == 1) {
    char some[4096];  // what a terminal hands over at once need not be all
    const ssize_t size = read(terminal, some, sizeof some);
    if (size <= 0) break;
    text.append(some, static_cast<size_t>(size));
  }
  for (int descriptor : {terminal, user_side, saved}) close(descriptor);
  return text;
}

TEST(Progress, RedrawsInPlaceOnATerminal) {
  const std::string text = bar_on_terminal(0);
  EXPECT_THAT(text, HasSubstr("\rencode [..............................]   0 %"));
  EXPECT_THAT(text, HasSubstr("\rencode [###############...............]  50 %"));
  EXPECT_THAT(text, HasSubstr("\rencode [##############################] 100 %"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);  // the one that ends the bar
}

TEST(Progress, StaysWithinTheTerminal) {
  for (const unsigned short columns : {1, 7, 20, 34, 60, 80}) {
    const std::string text = bar_on_terminal(columns);
    for (size_t begin = text.find('\r'); begin != std::string::npos; begin = text.find('\r', begin + 1)) {
      const size_t end = text.find("\x1b[K", begin);
      if (end == std::string::npos) break;  // the line break after the last one
      EXPECT_LT(end - begin - 1, columns) << text.substr(begin + 1, end - begin - 1);
    }
    if (columns == 20) {
      EXPECT_THAT(text, HasSubstr("\rencode  50 %"));
    }
    if (columns == 34) {
      EXPECT_THAT(text, HasSubstr("#"));
    }
  }
}

// Every "<before>NUMBER<between>NUMBER" of the text.
std::vector<std::pair<double, double>> pairs_in(const std::string& text, const std::string& before,
                                                const std::string& between) {
  std::vector<std::pair<double, double>> pairs;
  for (size_t at = text.find(before); at != std::string::npos; at = text.find(before, at + 1)) {
    size_t used = 0;
    double first = std::stod(text.substr(at + before.size()), &used);
    size_t next = at + before.size() + used;
    if (text.compare(next, between.size(), between) != 0) continue;
    pairs.emplace_back(first, std::stod(text.substr(next + between.size())));
  }
  return pairs;
}

TEST(Plot, PlacesPointsLinearlyAndLabelsTheAxes) {
  TemporaryDirectory directory;
  auto path = directory / "plot.svg";
  write_svg_plot(path, {"a < b & c", "context tokens", "perplexity"},
                 {{"own", {0, 2048, 6144}, {15, 14, 13}, {0.5, 0.5, 0.5}}, {"other", {0, 6144}, {15, 15}, {}}});
  std::string svg = read_file(path);
  auto points = pairs_in(svg, "<circle cx=\"", "\" cy=\"");
  ASSERT_EQ(points.size(), 5u);
  auto [x0, y0] = points[0];
  auto [x1, y1] = points[1];
  auto [x2, y2] = points[2];
  EXPECT_NEAR((x1 - x0) / (x2 - x0), 2048.0 / 6144, 1e-3);
  EXPECT_NEAR((y1 - y0) / (y2 - y0), 0.5, 1e-3);
  EXPECT_GT(y2, y0);  // lower perplexity lies lower in the picture
  EXPECT_EQ(points[3], points[0]);
  EXPECT_EQ(points[4], (std::pair{x2, y0}));
  for (const char* text : {">a &lt; b &amp; c<", ">context tokens<", ">perplexity<", ">0<", ">2,048<", ">6,144<",
                           ">own<", ">other<", ">13<", ">14.5<"}) {
    EXPECT_THAT(svg, HasSubstr(text));
  }
  // The first error bar's lower stroke lies half a unit of perplexity below its point.
  auto strokes = pairs_in(svg, "<path d=\"M72.0 ", " H");
  ASSERT_EQ(strokes.size(), 1u);
  EXPECT_NEAR(strokes[0].first - y0, (y1 - y0) / 2, 0.2);
}

TEST(Plot, IsUtf8WithoutControlCharacters) {
  TemporaryDirectory directory;
  auto path = directory / "plot.svg";
  write_svg_plot(path, {"caf\xe9", "a\x1b", "b"}, {{"own\x01", {0, 1}, {1, 2}, {}}});
  const std::string svg = read_file(path);
  for (const char* text : {">caf\\xe9<", ">a\\x1b<", ">own\\x01<"}) EXPECT_THAT(svg, HasSubstr(text));
  EXPECT_TRUE(std::all_of(svg.begin(), svg.end(), [](char c) { return c == '\n' || (c >= ' ' && c < 0x7f); }));
}

TEST(HeatMap, HasACellForEachValue) {
  TemporaryDirectory directory;
  auto path = directory / "map.svg";
  write_svg_heat_map(path, {{"needle <1>", "length", "depth"},
                            {"4k", "8k"},
                            {"0 %", "50 %", "100 %"},
                            {{1.0, 0.0}, {0.5, std::nullopt}, {0.25, 0.666}}});
  const std::string svg = read_file(path);
  EXPECT_NE(svg.find("needle &lt;1&gt;"), std::string::npos);
  for (const char* label : {">4k<", ">8k<", ">50 %<", ">100<", ">0<", ">25<", ">67<"}) {
    EXPECT_NE(svg.find(label), std::string::npos) << label;
  }
  size_t cells = 0;
  for (size_t at = svg.find("stroke=\"white\""); at != std::string::npos; at = svg.find("stroke=\"white\"", at + 1))
    ++cells;
  EXPECT_EQ(cells, 6u);
  for (const char* colour : {"#009E73", "#D55E00", "#F0E442", "#eeeeee"}) {  // the best, the worst, half, absent
    EXPECT_NE(svg.find(colour), std::string::npos) << colour;
  }
  EXPECT_EQ(error_of<Error>([&] { write_svg_heat_map(path, {{}, {"a"}, {"b"}, {}}); }),
            path.string() + ": the heat map has 1 columns and 1 rows, but not so many values");
}

TEST(Plot, RefusesWhatItCannotDraw) {
  TemporaryDirectory directory;
  std::string path = directory / "plot.svg";
  EXPECT_EQ(error_of<Error>([&] { write_svg_plot(path, {}, {{"a", {1, 2}, {1}, {}}}); }),
            path + ": the plot's line a has 2 x values, 1 y values and 0 errors");
  EXPECT_EQ(error_of<Error>([&] { write_svg_plot(path, {}, {{"a", {1}, {NAN}, {}}}); }),
            path + ": the plot has no point to draw");
  EXPECT_EQ(directory.entries(), 0u);
}

TEST(Memory, PeakFollowsAnAllocationAndCanBeReset) {
  constexpr size_t kBlock = 200 << 20;
  uint64_t before = peak_resident_bytes();
  void* block = mmap(nullptr, kBlock, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(block, MAP_FAILED);
  std::memset(block, 1, kBlock);
  EXPECT_GE(peak_resident_bytes(), before + kBlock / 2);
  munmap(block, kBlock);
  EXPECT_GE(peak_resident_bytes(), before + kBlock / 2);  // a high-water mark, so it stays
  if (access("/proc/self/clear_refs", W_OK) == 0) {
    reset_peak_resident_bytes();
    EXPECT_LT(peak_resident_bytes(), before + kBlock / 2);
  }
}

}  // namespace
}  // namespace cepe
