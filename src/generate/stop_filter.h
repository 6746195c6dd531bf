// Ends a stream of text at the first stop string, wherever the pieces of text are cut.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace cepe {

// What becomes of white space before a text's first other character.
enum class LeadingSpace {
  kept,
  dropped  // it is not shown, and a stop string of white space alone does not end the text there
};

// Makes the answer one line: it ends at its first line break, white space before it aside. Options: Request,
// GenerateOptions.
template <typename Options>
void end_at_line_break(Options& options) {
  options.stop.emplace_back("\n");
  options.leading = LeadingSpace::dropped;
}

class StopFilter {
 public:
  // Throws Error when a stop string is empty or not valid UTF-8.
  explicit StopFilter(std::vector<std::string> stops, LeadingSpace leading = LeadingSpace::kept);

  // -> the text that can be shown now: all so far, less an end that might be the beginning of a stop string. The stop
  // string itself is not shown. Of several, the one that is complete first ends the text (the longest of those that end
  // at the same character), however the text was cut into pieces, which are whole UTF-8 characters.
  std::string push(std::string_view text);
  // The text is over: -> what was held back. Empty after a stop string.
  std::string finish();
  bool stopped() const { return stopped_; }

 private:
  size_t held_back() const;             // bytes at the end of pending_
  std::string shown(std::string text);  // without the leading space that is dropped

  std::vector<std::string> stops_;
  std::string pending_;
  bool leading_ = false;  // so far there was white space alone, which is dropped
  bool stopped_ = false;
};

}  // namespace cepe
