// A file that lives in memory and has a path, for tests that write thousands of them.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <stdexcept>
#include <string>
#include <string_view>

namespace cepe {

class MemoryFile {
 public:
  MemoryFile() : descriptor_(memfd_create("cepe-test", MFD_CLOEXEC)) {
    if (descriptor_ < 0) throw std::runtime_error("cannot make a file in memory");
  }
  ~MemoryFile() { close(descriptor_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }
  // Replaces the content.
  void set(std::string_view content) {
    auto size = static_cast<ssize_t>(content.size());
    bool written = ftruncate(descriptor_, size) == 0 && pwrite(descriptor_, content.data(), content.size(), 0) == size;
    if (!written) throw std::runtime_error("cannot write a file in memory");
  }

 private:
  int descriptor_;
};

}  // namespace cepe
