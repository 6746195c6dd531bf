#include "eval/samples.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>

#include "base/error.h"
#include "base/file.h"
#include "base/json_text.h"
#include "io/json_file.h"

namespace cepe {

using nlohmann::json;

void check_run_configuration(const std::filesystem::path& directory, const json& configuration) {
  const std::filesystem::path path = directory / "run.json";
  if (!std::filesystem::exists(path)) {
    std::filesystem::create_directories(directory);
    write_file(path, json_text(configuration, 2) + "\n");
    return;
  }
  const json before = read_json(path);
  if (before == configuration) return;
  for (const auto& [name, value] : configuration.items()) {
    const json earlier = before.is_object() ? before.value(name, json()) : json();
    require(earlier == value, "{}: an evaluation with {} = {} was begun here, now it is {}: give another directory",
            path.string(), name, json_text(earlier), json_text(value));
  }
  fail("{}: an evaluation with other settings was begun here: give another directory", path.string());
}

SampleFile::SampleFile(std::filesystem::path path) : path_(std::move(path)) {
  descriptor_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail_with("be opened");
  try {
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
      require(errno != EWOULDBLOCK, "{}: another process is writing this evaluation", path_.string());
      fail_with("be locked");
    }
    read();
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

SampleFile::~SampleFile() { ::close(descriptor_); }

void SampleFile::fail_with(const char* doing) const {
  fail("{}: it could not {}: {}", path_.string(), doing, std::strerror(errno));
}

void SampleFile::read() {
  const std::string content = read_file(path_);
  size_t begin = 0;
  for (size_t end = content.find('\n'); end != std::string::npos; end = content.find('\n', begin)) {
    json record = json::parse(content.begin() + static_cast<std::ptrdiff_t>(begin),
                              content.begin() + static_cast<std::ptrdiff_t>(end), nullptr, false);
    require(record.is_object(), "{}:{}: expected a JSON object, found something else", path_.string(),
            records_.size() + 1);
    records_.push_back(std::move(record));
    begin = end + 1;
  }
  size_ = static_cast<int64_t>(begin);
  if (::ftruncate(descriptor_, size_) != 0) fail_with("be cut to its whole lines");
}

void SampleFile::append_all(std::vector<json> records) {
  std::string lines;
  for (const json& record : records) lines += json_text(record) + "\n";
  size_t written = 0;
  while (written < lines.size()) {
    const ssize_t count =
        ::pwrite(descriptor_, lines.data() + written, lines.size() - written, size_ + static_cast<int64_t>(written));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    written += static_cast<size_t>(count);
  }
  if (written < lines.size() || ::fdatasync(descriptor_) != 0) {
    const int reason = errno;
    static_cast<void>(!::ftruncate(descriptor_, size_));
    errno = reason;
    fail_with("be written");
  }
  size_ += static_cast<int64_t>(lines.size());
  std::move(records.begin(), records.end(), std::back_inserter(records_));
}

}  // namespace cepe
