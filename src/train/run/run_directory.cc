#include "train/run/run_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace cepe {

namespace fs = std::filesystem;

RunDirectory::RunDirectory(fs::path path) : path_(std::move(path)) {
  std::error_code ignored;
  require(!fs::exists(path_, ignored) || fs::is_directory(path_, ignored),
          "{}: cannot create the directory: there is a file of this name", path_.string());
  if (fs::exists(path_ / ".lock", ignored)) lock();
}

RunDirectory::~RunDirectory() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void RunDirectory::make() {
  std::error_code error;
  fs::create_directories(path_, error);
  require(!error && fs::is_directory(path_), "{}: cannot create the directory: {}", path_.string(), error.message());
  if (descriptor_ < 0) lock();
}

void RunDirectory::lock() {
  const int descriptor = ::open((path_ / ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  require(descriptor >= 0, "{}: cannot write into the directory: {}", path_.string(), std::strerror(errno));
  if (::flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    ::close(descriptor);
    fail("{}: another process is training in this directory", path_.string());
  }
  descriptor_ = descriptor;
}

}  // namespace cepe
