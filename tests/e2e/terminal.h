// A program on a terminal of its own (a pseudo terminal), as a person has it before the eyes.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace cepe {

class Terminal {
 public:
  // Starts cepe with standard input, output and error on the terminal.
  explicit Terminal(const std::vector<std::string>& arguments);
  ~Terminal();  // ends the program where it still runs
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  // Types keys: "\n" is Enter, kInterrupt Ctrl-C, kEnd Ctrl-D.
  static constexpr const char *kInterrupt = "\x03", *kEnd = "\x04";
  void type(const std::string& keys);
  // Waits until the phrase has come since the last call, and forgets what came up to it. A failure of the test where it
  // does not come within a minute -> what was shown of it; with the phrase.
  std::string expect(const std::string& phrase);
  // Waits for the program's end -> its exit status, 128 + n when signal n ended it; -1 where it did not end in a
  // minute.
  int wait();

 private:
  bool read_some();  // false at the end
  int master_ = -1;
  pid_t process_ = -1;
  std::string shown_;
};

}  // namespace cepe
