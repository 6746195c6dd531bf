#include "retrieval/build_index.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "base/error.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kTemporary = ".cepe-index-";

void sync(const fs::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const bool synced = descriptor >= 0 && (::fsync(descriptor) == 0 || errno == EINVAL);
  const int error = errno;
  if (descriptor >= 0) ::close(descriptor);
  if (!synced) fail("{}: cannot be synced to disk: {}", path.string(), std::strerror(error));
}

// Whether the name is that of a process's temporary directory, and there is no such process now.
bool is_left_behind(const std::string& name) {
  if (!name.starts_with(kTemporary)) return false;
  const std::string digits = name.substr(kTemporary.size());
  const bool number = !digits.empty() && digits.size() < 10 && digits.find_first_not_of("0123456789") == digits.npos;
  return number && ::kill(std::stoi(digits), 0) != 0 && errno == ESRCH;
}

// Removes itself unless it was renamed.
class TemporaryIndex {
 public:
  explicit TemporaryIndex(const fs::path& parent) : path_(parent / fmt::format("{}{}", kTemporary, ::getpid())) {
    std::error_code error;
    for (fs::directory_iterator entry(parent, error), end; !error && entry != end; entry.increment(error)) {
      if (is_left_behind(entry->path().filename().string())) fs::remove_all(entry->path(), error);
    }
    fs::create_directory(path_, error);
    if (error) fail("{}: the directory cannot be made: {}", path_.string(), error.message());
  }
  ~TemporaryIndex() {
    std::error_code ignored;
    if (!renamed_) fs::remove_all(path_, ignored);
  }
  TemporaryIndex(const TemporaryIndex&) = delete;
  TemporaryIndex& operator=(const TemporaryIndex&) = delete;

  const fs::path& path() const { return path_; }
  void rename_to(const fs::path& index) {
    for (const auto& entry : fs::directory_iterator(path_)) sync(entry.path());
    sync(path_);
    std::error_code error;
    fs::rename(path_, index, error);
    if (error) fail("{}: the finished index cannot take its place: {}", index.string(), error.message());
    renamed_ = true;
    sync(index.has_parent_path() ? index.parent_path() : fs::path("."));
  }

 private:
  fs::path path_;
  bool renamed_ = false;
};

}  // namespace

IndexChanges build_index(const fs::path& index, const IndexDescription& description, const BertEncoder* encoder,
                         const std::function<void(IndexWriter&)>& fill) {
  const fs::path place = index.has_filename() ? index : index.parent_path();  // "name/" is "name"
  std::error_code error;
  require(!fs::exists(place, error), "{}: there is something in the index's place already", place.string());
  TemporaryIndex temporary(place.has_parent_path() ? place.parent_path() : fs::path("."));
  make_empty_index(temporary.path(), description);
  IndexChanges changes;
  {
    IndexWriter writer(temporary.path(), encoder, true);
    fill(writer);
    changes = writer.commit();
  }
  require(changes.added > 0, "{}: there is no passage to build the index of", place.string());
  temporary.rename_to(place);
  return changes;
}

}  // namespace cepe
