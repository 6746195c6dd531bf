#include "base/output_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/error.h"
#include "base/file.h"

namespace cepe {
namespace {

// A device or a pipe: it is written into, where a regular file is replaced.
bool is_device(const std::filesystem::path& path) {
  struct stat status{};
  return ::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode);
}

// Writes all of the content and closes the stream.
void write_stream(std::FILE* stream, const std::filesystem::path& path, std::string_view content) {
  require(stream != nullptr, "{}: cannot open the file: {}", path.string(), std::strerror(errno));
  bool written = std::fwrite(content.data(), 1, content.size(), stream) == content.size();
  written = std::fclose(stream) == 0 && written;
  require(written, "{}: cannot write the file: {}", path.string(), std::strerror(errno));
}

}  // namespace

bool is_standard_output(const std::filesystem::path& path) {
  if (path == "-") return true;
  struct stat file{}, out{};
  return ::stat(path.c_str(), &file) == 0 && ::fstat(STDOUT_FILENO, &out) == 0 && file.st_dev == out.st_dev &&
         file.st_ino == out.st_ino;
}

void write_output(const std::filesystem::path& path, std::string_view content) {
  if (is_standard_output(path)) {
    const bool written =
        std::fwrite(content.data(), 1, content.size(), stdout) == content.size() && std::fflush(stdout) == 0;
    require(written, "standard output: the result could not be written: {}", std::strerror(errno));
  } else if (is_device(path)) {
    write_stream(std::fopen(path.c_str(), "we"), path, content);
  } else {
    write_file(path, content);
  }
}

void check_writable(const std::filesystem::path& path) {
  // A pipe is not opened before there is something to write: its reader would see the end.
  if (!is_standard_output(path) && !is_device(path)) AtomicFile probe(path);
}

}  // namespace cepe
