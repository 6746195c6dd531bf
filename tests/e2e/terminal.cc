#include "e2e/terminal.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/report.h"

namespace cepe {
namespace {

constexpr double kSeconds = 60;

}  // namespace

Terminal::Terminal(const std::vector<std::string>& arguments) {
  std::vector<std::string> words{CEPE_BINARY};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  process_ = ::forkpty(&master_, nullptr, nullptr, nullptr);
  require(process_ >= 0, "no terminal can be had");
  if (process_ > 0) return;
  ::execv(pointers[0], pointers.data());
  ::_exit(127);
}

Terminal::~Terminal() {
  if (process_ > 0) {
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
  }
  ::close(master_);
}

void Terminal::type(const std::string& keys) {
  ASSERT_EQ(::write(master_, keys.data(), keys.size()), static_cast<ssize_t>(keys.size()));
}

bool Terminal::read_some() {
  pollfd output{.fd = master_, .events = POLLIN, .revents = 0};
  if (::poll(&output, 1, 100) <= 0) return true;
  char bytes[4096];
  const ssize_t count = ::read(master_, bytes, sizeof bytes);
  if (count > 0) shown_.append(bytes, static_cast<size_t>(count));
  return count > 0;
}

std::string Terminal::expect(const std::string& phrase) {
  const double until = seconds_now() + kSeconds;
  size_t at = std::string::npos;
  while ((at = shown_.find(phrase)) == std::string::npos) {
    if (seconds_now() < until && read_some()) continue;
    ADD_FAILURE() << "the terminal does not show \"" << phrase << "\" but:\n" << shown_;
    return shown_;
  }
  const std::string before = shown_.substr(0, at + phrase.size());
  shown_.erase(0, at + phrase.size());
  return before;
}

int Terminal::wait() {
  const double until = seconds_now() + kSeconds;
  while (seconds_now() < until) {
    int state = 0;
    if (::waitpid(process_, &state, WNOHANG) == process_) {
      process_ = -1;
      return WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
    }
    if (!read_some()) ::usleep(10'000);  // what is not read would hold the program up
  }
  return -1;
}

}  // namespace cepe
