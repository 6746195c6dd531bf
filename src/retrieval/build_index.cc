#include "retrieval/build_index.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "base/error.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kTemporary = ".cepe-index-";

int open_directory(const fs::path& path) {
  return ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

bool is_temporary_name(const std::string& name) {
  return name.size() > kTemporary.size() && name.starts_with(kTemporary) &&
         name.find_first_not_of("0123456789-", kTemporary.size()) == std::string::npos;
}

// Removes what killed processes left. A living one holds its directory's lock, also one of another container, whose
// process number says nothing here.
void remove_abandoned(const fs::path& parent) {
  std::error_code error;
  std::vector<fs::path> found;
  for (fs::directory_iterator entry(parent, error), end; !error && entry != end; entry.increment(error)) {
    if (is_temporary_name(entry->path().filename().string())) found.push_back(entry->path());
  }
  for (const fs::path& path : found) {
    const int descriptor = open_directory(path);
    if (descriptor < 0) continue;
    if (::flock(descriptor, LOCK_EX | LOCK_NB) == 0) fs::remove_all(path, error);
    ::close(descriptor);
  }
}

// Removes itself unless it was renamed.
class TemporaryIndex {
 public:
  explicit TemporaryIndex(const fs::path& parent) {
    remove_abandoned(parent);
    for (int number = 0; !make(parent / fmt::format("{}{}-{}", kTemporary, ::getpid(), number)); ++number) {
    }
  }
  ~TemporaryIndex() {
    std::error_code ignored;
    if (!renamed_) fs::remove_all(path_, ignored);
    ::close(descriptor_);
  }
  TemporaryIndex(const TemporaryIndex&) = delete;
  TemporaryIndex& operator=(const TemporaryIndex&) = delete;

  const fs::path& path() const { return path_; }
  void rename_to(const fs::path& index) {
    for (const auto& entry : fs::directory_iterator(path_)) sync_to_disk(entry.path());
    sync_to_disk(path_);
    std::error_code error;
    fs::rename(path_, index, error);
    if (error) fail("{}: the finished index cannot take its place: {}", index.string(), error.message());
    renamed_ = true;
    sync_to_disk(index.has_parent_path() ? index.parent_path() : fs::path("."));
  }

 private:
  // False where the name, or the directory, was taken by another process meanwhile.
  bool make(const fs::path& path) {
    path_ = path;
    if (::mkdir(path.c_str(), 0777) != 0) {
      if (errno == EEXIST) return false;
      fail("{}: the directory cannot be made: {}", path.string(), std::strerror(errno));
    }
    // Whoever removes abandoned directories may find this one before it is locked.
    descriptor_ = open_directory(path);
    if (descriptor_ < 0 && errno == ENOENT) return false;
    if (descriptor_ < 0) fail("{}: the directory cannot be opened: {}", path.string(), std::strerror(errno));
    const bool taken = ::flock(descriptor_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    std::error_code error;
    if (!taken && fs::exists(path, error)) return true;
    ::close(descriptor_);
    return false;
  }

  fs::path path_;
  int descriptor_ = -1;  // holds the lock that says that the directory is in use
  bool renamed_ = false;
};

}  // namespace

IndexChanges build_index(const fs::path& index, const IndexDescription& description, const BertEncoder* encoder,
                         const std::function<void(IndexWriter&)>& fill) {
  const fs::path place = index.has_filename() ? index : index.parent_path();  // "name/" is "name"
  std::error_code error;
  require(!fs::exists(place, error), "{}: there is something in the index's place already", place.string());
  const fs::path parent = place.has_parent_path() ? place.parent_path() : fs::path(".");
  require(fs::is_directory(parent, error), "{}: the index cannot be built: there is no directory {}", place.string(),
          parent.string());
  TemporaryIndex temporary(parent);
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
