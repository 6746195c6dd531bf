#include "apps/bus_error.h"

#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace cepe {
namespace {

// Only what a signal handler may use: open, read, write and _exit, and no memory but this.
char maps[1 << 18];

std::string_view read_maps() {
  const int descriptor = ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  size_t size = 0;
  while (descriptor >= 0 && size < sizeof maps) {
    const ssize_t count = ::read(descriptor, maps + size, sizeof maps - size);
    if (count <= 0) break;
    size += static_cast<size_t>(count);
  }
  return {maps, size};
}

uint64_t hexadecimal(std::string_view& text) {
  uint64_t value = 0;
  for (; !text.empty(); text.remove_prefix(1)) {
    const char c = text.front();
    if (c >= '0' && c <= '9')
      value = value * 16 + static_cast<uint64_t>(c - '0');
    else if (c >= 'a' && c <= 'f')
      value = value * 16 + static_cast<uint64_t>(c - 'a' + 10);
    else
      break;
  }
  return value;
}

// The file that is mapped at an address; empty where there is none. A line: "begin-end rw-p offset device inode path".
std::string_view mapped_file(uint64_t address) {
  std::string_view rest = read_maps();
  while (!rest.empty()) {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(line.size() < rest.size() ? line.size() + 1 : line.size());
    const uint64_t begin = hexadecimal(line);
    if (!line.empty()) line.remove_prefix(1);
    const uint64_t end = hexadecimal(line);
    if (address < begin || address >= end) continue;
    const size_t path = line.find('/');
    return path == std::string_view::npos ? "" : line.substr(path);
  }
  return "";
}

void say(std::string_view text) {
  if (::write(STDERR_FILENO, text.data(), text.size()) < 0) return;  // nothing is left to be done about it
}

void on_bus_error(int, siginfo_t* info, void*) {
  const std::string_view file = mapped_file(reinterpret_cast<uint64_t>(info->si_addr));
  say("cepe: ");
  say(file.empty() ? "a mapped file" : file);
  say(": its bytes went away while it was read: another program cut the file short, or its disk failed\n");
  ::_exit(1);
}

}  // namespace

void explain_bus_errors() {
  struct sigaction action{};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO;
  ::sigaction(SIGBUS, &action, nullptr);
}

}  // namespace cepe
