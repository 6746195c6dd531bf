// Parts of an HTML page. Whatever comes from a file goes through html_text() or html_image(): nothing of it can become
// markup or be run.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cepe {

// The text with HTML's special characters escaped, in elements and in quoted attributes. Line breaks stay; other
// control characters and bytes that are not UTF-8 are shown as printable() shows them, and characters that turn the
// direction of writing as \u202e.
std::string html_text(std::string_view text);

// An SVG file as an image within the page. It is drawn, but not part of the document: what it holds of scripts does
// not run, and what it refers to is not loaded.
std::string html_image(std::string_view svg, const std::string& description);

std::string base64(std::string_view bytes);  // RFC 4648, with padding

// A cell; a number is shown as `text` and sorted by `number`. `link`: the id of a part of the page.
struct HtmlCell {
  std::string text;
  std::optional<double> number = std::nullopt;
  std::string link = {};
};

// A table that sorts by a column at a click on its heading.
class HtmlTable {
 public:
  explicit HtmlTable(std::vector<std::string> header) : header_(std::move(header)) {}
  void add_row(std::vector<HtmlCell> cells);  // throws Error when the count differs from the header's
  bool empty() const { return rows_.empty(); }
  std::string str() const;

 private:
  std::vector<std::string> header_;
  std::vector<std::vector<HtmlCell>> rows_;
};

// A heading that folds the content away until it is clicked.
std::string html_folded(const std::string& heading, const std::string& content);

}  // namespace cepe
