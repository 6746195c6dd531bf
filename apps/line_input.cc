#include "apps/line_input.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace cepe {
namespace {

constexpr const char *kPrompt = "> ", *kMorePrompt = ". ";
constexpr std::string_view kQuotes = "\"\"\"", kBackslash = "\\", kWhite = " \t\r\n";

std::string trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(kWhite);
  if (begin == std::string_view::npos) return "";
  return std::string(text.substr(begin, text.find_last_not_of(kWhite) + 1 - begin));
}

}  // namespace

LineInput::LineInput(InterruptFlag& interrupt) : interrupt_(interrupt), terminal_(::isatty(STDIN_FILENO) == 1) {}

// A whole line of what was read.
bool LineInput::take_line(std::string& line) {
  const size_t end = buffer_.find('\n', searched_);
  searched_ = end == std::string::npos ? buffer_.size() : 0;
  if (end == std::string::npos) return false;
  line = buffer_.substr(0, end);
  if (line.ends_with('\r')) line.pop_back();
  buffer_.erase(0, end + 1);
  return true;
}

LineInput::Result LineInput::next(const std::string& prompt, std::string& line) {
  if (terminal_) std::fputs(prompt.c_str(), stderr);
  // A signal between the look at the flag and poll() would be seen with the next line only: poll() ends now and then.
  constexpr int kMilliseconds = 200;
  while (true) {
    if (interrupt_.take()) {
      if (terminal_) buffer_.clear(), searched_ = 0;
      return Result::interrupted;
    }
    if (take_line(line)) return Result::line;
    pollfd input{.fd = STDIN_FILENO, .events = POLLIN};
    if (::poll(&input, 1, kMilliseconds) <= 0) continue;
    char bytes[4096];
    const ssize_t count = ::read(STDIN_FILENO, bytes, sizeof bytes);
    if (count < 0 && errno == EINTR) continue;
    require(count >= 0, "standard input: it cannot be read: {}", std::strerror(errno));
    buffer_.append(bytes, static_cast<size_t>(count));
    if (count > 0) continue;
    if (buffer_.empty()) return Result::end;
    line = std::exchange(buffer_, "");  // a last line without its end
    searched_ = 0;
    return Result::line;
  }
}

LineInput::Result read_message(LineInput& input, InputMessage& message) {
  std::string line, text;
  LineInput::Result result = input.next(kPrompt, line);
  message.quoted = line.starts_with(kQuotes);
  if (message.quoted) line.erase(0, kQuotes.size());
  const std::string_view mark = message.quoted ? kQuotes : kBackslash;
  while (result == LineInput::Result::line) {
    // Spaces after a mark are invisible: they do not keep it from being one.
    const std::string_view shown(line.data(), line.find_last_not_of(kWhite) + 1);
    const bool marked = shown.ends_with(mark);
    text += marked ? shown.substr(0, shown.size() - mark.size()) : line;
    if (marked == message.quoted) break;  // quotes end a message, a backslash goes on with it
    text += '\n';
    result = input.next(kMorePrompt, line);
  }
  message.text = trimmed(text);
  return result == LineInput::Result::end && !message.text.empty() ? LineInput::Result::line : result;
}

}  // namespace cepe
