// Lines of a conversation from standard input: typed at a terminal, or from a pipe or a file.
#pragma once

#include <string>

#include "apps/interrupt.h"

namespace cepe {

// Reads standard input. At a terminal the terminal edits the line; there is no history (docs/chat.md says why).
class LineInput {
 public:
  // The flag must outlive it.
  explicit LineInput(InterruptFlag& interrupt);

  enum class Result { line, end, interrupted };
  // The next line, without its end. `prompt` is shown on standard error, where standard input is a terminal.
  // interrupted: Ctrl-C came while it waited; what was typed of the line is lost. Throws Error where standard input
  // cannot be read.
  Result next(const std::string& prompt, std::string& line);

  bool terminal() const { return terminal_; }

 private:
  bool take_line(std::string& line);
  InterruptFlag& interrupt_;
  bool terminal_;
  std::string buffer_;
  size_t searched_ = 0;  // its first bytes that hold no line break
};

// What a person says at once, which may be several lines:
//   a line that ends in a backslash goes on in the next one;
//   what stands between """ at the beginning of a line and """ at the end of one is taken as it is.
// Without white space at both ends. Results as those of next(); input that ends inside a message is its end.
struct InputMessage {
  std::string text;
  bool quoted = false;  // began with """: not a command, whatever it says
};
LineInput::Result read_message(LineInput& input, InputMessage& message);

}  // namespace cepe
