#include "report/html.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/report.h"

namespace cepe {
namespace {

std::string cell_of(const HtmlCell& cell) {
  std::string content = html_text(cell.text);
  if (!cell.link.empty()) content = fmt::format("<a href=\"#{}\">{}</a>", html_text(cell.link), content);
  if (!cell.number || !std::isfinite(*cell.number)) return fmt::format("<td>{}</td>", content);
  return fmt::format("<td class=\"number\" data-value=\"{}\">{}</td>", *cell.number, content);
}

// Characters that turn the direction of what follows them, beyond the end of the text: U+202A to U+202E and U+2066 to
// U+2069. Returns the last byte of the one that begins the text, 0 where none does.
unsigned direction_control(std::string_view text) {
  if (text.size() < 3) return 0;
  const std::string_view lead = text.substr(0, 2);
  const auto last = static_cast<unsigned char>(text[2]);
  const bool embedding = lead == "\xe2\x80" && last >= 0xAA && last <= 0xAE;
  return embedding || (lead == "\xe2\x81" && last >= 0xA6 && last <= 0xA9) ? last : 0;
}

}  // namespace

std::string html_text(std::string_view text) {
  std::string result;
  const std::string shown = printable_lines(text);
  for (size_t i = 0; i < shown.size(); ++i) {
    const char c = shown[i];
    if (const unsigned last = direction_control(std::string_view(shown).substr(i)); last != 0) {
      result += fmt::format("\\u20{:x}", last - (shown[i + 1] == '\x80' ? 0x80u : 0x40u));
      i += 2;
      continue;
    }
    switch (c) {
      case '&': result += "&amp;"; break;
      case '<': result += "&lt;"; break;
      case '>': result += "&gt;"; break;
      case '"': result += "&quot;"; break;
      case '\'': result += "&#39;"; break;
      default: result += c;
    }
  }
  return result;
}

std::string base64(std::string_view bytes) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string result;
  result.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const auto byte = [&](size_t k) { return k < bytes.size() ? static_cast<unsigned char>(bytes[k]) : 0u; };
    const unsigned bits = byte(i) << 16 | byte(i + 1) << 8 | byte(i + 2);
    for (size_t k = 0; k < 4; ++k) result += i + k > bytes.size() ? '=' : kDigits[bits >> (18 - 6 * k) & 63];
  }
  return result;
}

std::string html_image(std::string_view svg, const std::string& description) {
  return fmt::format("<img alt=\"{}\" src=\"data:image/svg+xml;base64,{}\">\n", html_text(description), base64(svg));
}

void HtmlTable::add_row(std::vector<HtmlCell> cells) {
  require(cells.size() == header_.size(), "a table of {} columns was given a row of {} cells", header_.size(),
          cells.size());
  rows_.push_back(std::move(cells));
}

std::string HtmlTable::str() const {
  std::string html = "<div class=\"wide\"><table>\n<thead><tr>";
  for (size_t column = 0; column < header_.size(); ++column) {
    const bool numbers =
        std::any_of(rows_.begin(), rows_.end(), [&](const auto& row) { return row[column].number.has_value(); });
    html += fmt::format("<th{}><button type=\"button\">{}</button></th>", numbers ? " class=\"number\"" : "",
                        html_text(header_[column]));
  }
  html += "</tr></thead>\n<tbody>\n";
  for (const auto& row : rows_) {
    html += "<tr>";
    for (const HtmlCell& cell : row) html += cell_of(cell);
    html += "</tr>\n";
  }
  return html + "</tbody>\n</table></div>\n";
}

std::string html_folded(const std::string& heading, const std::string& content) {
  return fmt::format("<details><summary>{}</summary>\n{}</details>\n", html_text(heading), content);
}

}  // namespace cepe
