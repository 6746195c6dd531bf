// Ctrl-C as a flag, for a program that goes on after it.
#pragma once

namespace cepe {

// While an object of this type lives, SIGINT raises a flag instead of ending the program. A poll() that waits returns
// with EINTR; reads and writes go on. One object at a time. Afterwards SIGINT does what it did before.
class InterruptFlag {
 public:
  // catches: false leaves SIGINT as it is, and the flag is never raised.
  explicit InterruptFlag(bool catches);
  ~InterruptFlag();
  InterruptFlag(const InterruptFlag&) = delete;
  InterruptFlag& operator=(const InterruptFlag&) = delete;

  // Lowers the flag -> whether it was raised.
  bool take();

 private:
  bool catches_;
};

}  // namespace cepe
