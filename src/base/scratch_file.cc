#include "base/scratch_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include "base/error.h"

namespace cepe {

ScratchFile::ScratchFile(const std::filesystem::path& directory) : directory_(directory) {
  std::string name = (directory / ".cepe-scratch-XXXXXX").string();
  descriptor_ = ::mkostemp(name.data(), O_CLOEXEC);
  require(descriptor_ >= 0, "{}: cannot make a temporary file there: {}", directory.string(), std::strerror(errno));
  ::unlink(name.c_str());
}

ScratchFile::~ScratchFile() {
  if (data_ != nullptr) ::munmap(data_, size_);
  ::close(descriptor_);
}

void ScratchFile::write(std::string_view bytes) {
  require(data_ == nullptr, "{}: the temporary file there is mapped: nothing can be added", directory_.string());
  while (!bytes.empty()) {
    const ssize_t count = ::write(descriptor_, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    require(count >= 0, "{}: cannot write a temporary file there: {}", directory_.string(), std::strerror(errno));
    bytes.remove_prefix(static_cast<size_t>(count));
    size_ += static_cast<size_t>(count);
  }
}

std::string_view ScratchFile::map() {
  if (data_ == nullptr && size_ > 0) {
    void* map = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor_, 0);
    require(map != MAP_FAILED, "{}: cannot map the temporary file there: {}", directory_.string(),
            std::strerror(errno));
    data_ = static_cast<char*>(map);
  }
  return {data_, size_};
}

}  // namespace cepe
