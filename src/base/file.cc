#include "base/file.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sanitizer/asan_interface.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <mutex>
#include <set>
#include <utility>

#include "base/cannot_read.h"
#include "base/error.h"

namespace cepe {
namespace {

// A descriptor that closes itself; close errors matter only to writers, which close by hand.
class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return value_; }

 private:
  int value_;
};

std::string reason() { return std::strerror(errno); }

[[noreturn]] void cannot(const char* do_what, const std::filesystem::path& path) {
  const bool absent = errno == ENOENT;
  const std::string sentence = fmt::format("{}: cannot {}: {}", path.string(), do_what, reason());
  if (absent) throw Error(sentence);
  throw CannotRead(sentence);
}

int open_for_reading(const std::filesystem::path& path) {
  int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) cannot("open the file", path);
  return descriptor;
}

// Reads up to size bytes; 0 at the end of the file.
size_t read_some(int descriptor, char* out, size_t size, const std::filesystem::path& path) {
  for (;;) {
    ssize_t count = ::read(descriptor, out, size);
    if (count >= 0) return static_cast<size_t>(count);
    if (errno != EINTR) cannot("read the file", path);
  }
}

std::filesystem::path directory_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

// The bytes between a map's end and the end of its last page: zeros that nobody should read. The address sanitizer
// cannot know that by itself, so it is told; without it the ASAN_ macros are empty.
size_t bytes_after_map(size_t size) {
  auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  return (page - size % page) % page;
}

// Makes the rename itself durable.
void sync_directory(const std::filesystem::path& directory, const std::filesystem::path& path) {
  Descriptor descriptor(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // EINVAL: a file system that cannot sync directories; the rename has happened all the same.
  if (descriptor.get() < 0 || (::fsync(descriptor.get()) != 0 && errno != EINVAL)) {
    fail("{}: written, but its directory cannot be synced to disk: {}", path.string(), reason());
  }
}

std::filesystem::path temporary_name(const std::filesystem::path& directory) {
  static std::atomic<unsigned> counter{0};
  return directory / fmt::format(".cepe-{}-{}.tmp", ::getpid(), counter++);
}

bool is_temporary_name(const std::string& name) {
  constexpr std::string_view kBegin = ".cepe-", kEnd = ".tmp";
  return name.size() > kBegin.size() + kEnd.size() && name.starts_with(kBegin) && name.ends_with(kEnd) &&
         name.find_first_not_of("0123456789-", kBegin.size()) == name.size() - kEnd.size();
}

// Removes what killed processes left in a directory. The lock tells them from living ones, also from those of another
// container, whose process numbers say nothing here. Once a process and directory; never an error.
void remove_abandoned(const std::filesystem::path& directory) {
  static std::mutex mutex;
  static std::set<std::filesystem::path> done;
  const std::lock_guard guard(mutex);
  if (!done.insert(directory).second) return;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    if (!is_temporary_name(entry->path().filename().string())) continue;
    const Descriptor file(::open(entry->path().c_str(), O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (file.get() >= 0 && ::flock(file.get(), LOCK_EX | LOCK_NB) == 0) ::unlink(entry->path().c_str());
  }
}

}  // namespace

std::string read_file(const std::filesystem::path& path) {
  Descriptor descriptor(open_for_reading(path));
  struct stat status{};
  std::string content;
  // The size is only a hint: pipes and files of /proc report none.
  if (::fstat(descriptor.get(), &status) == 0 && S_ISREG(status.st_mode)) {
    content.reserve(static_cast<size_t>(status.st_size) + 1);
  }
  size_t used = 0;
  for (;;) {
    content.resize(std::max(content.capacity(), used + 65536));
    size_t count = read_some(descriptor.get(), content.data() + used, content.size() - used, path);
    used += count;
    if (count == 0) break;
  }
  content.resize(used);
  return content;
}

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  Descriptor descriptor(open_for_reading(path));
  struct stat status{};
  if (::fstat(descriptor.get(), &status) != 0) cannot("read the file's size", path);
  require(S_ISREG(status.st_mode), "{}: expected a regular file, found a {}", path.string(),
          S_ISDIR(status.st_mode) ? "directory" : "device or pipe");
  size_ = static_cast<size_t>(status.st_size);
  if (size_ == 0) return;  // an empty map is not allowed
  void* map = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor.get(), 0);
  if (map == MAP_FAILED) cannot("map the file into memory", path);
  data_ = static_cast<const std::byte*>(map);
  ASAN_POISON_MEMORY_REGION(data_ + size_, bytes_after_map(size_));
}

MappedFile::~MappedFile() {
  if (data_ == nullptr) return;
  ASAN_UNPOISON_MEMORY_REGION(data_ + size_, bytes_after_map(size_));
  ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

AtomicFile::AtomicFile(std::filesystem::path path) : path_(std::move(path)) {
  require(path_.has_filename(), "{}: cannot write: the path names a directory", path_.string());
  std::error_code error;
  // A link keeps pointing where it did: its target is what is replaced.
  if (std::filesystem::is_symlink(path_, error)) {
    auto target = std::filesystem::weakly_canonical(path_, error);
    require(!error, "{}: cannot write: the link cannot be followed: {}", path_.string(), error.message());
    path_ = target;
  }
  struct stat status{};
  bool exists = ::stat(path_.c_str(), &status) == 0;
  // A name that the system refuses is told now, not when the whole content is written.
  if (!exists && errno != ENOENT) fail("{}: cannot write: {}", path_.string(), reason());
  // Renaming over a device such as /dev/full would replace the device itself.
  require(!exists || S_ISREG(status.st_mode), "{}: cannot write: expected a regular file, found a {}", path_.string(),
          S_ISDIR(status.st_mode) ? "directory" : "device or pipe");
  auto directory = directory_of(path_);
  remove_abandoned(directory);
  // A file without a name gets one through /proc.
  if (::access("/proc/self/fd", X_OK) == 0) {
    descriptor_ = ::open(directory.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666);
  }
  if (descriptor_ >= 0) {
    (void)!::flock(descriptor_, LOCK_EX | LOCK_NB);  // for the moment in which it has its temporary name
  } else {
    while (!open_temporary(directory)) {
    }
  }
  if (exists) (void)!::fchmod(descriptor_, status.st_mode & 0777);  // the new content keeps the old permissions
}

// False where the name, or the file, was taken by another process meanwhile.
bool AtomicFile::open_temporary(const std::filesystem::path& directory) {
  temporary_ = temporary_name(directory);
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor_ < 0) {
    temporary_.clear();
    if (errno == EEXIST) return false;
    fail("{}: cannot create a file in {}: {}", path_.string(), directory.string(), reason());
  }
  // Whoever removes abandoned files may have found this one before it was locked.
  struct stat status{};
  const bool taken = ::flock(descriptor_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  if (!taken && ::fstat(descriptor_, &status) == 0 && status.st_nlink > 0) return true;
  ::close(std::exchange(descriptor_, -1));
  temporary_.clear();
  return false;
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, size_t size) {
  require(descriptor_ >= 0, "{}: written to after it was finished", path_.string());
  const char* next = static_cast<const char*>(data);
  while (size > 0) {
    ssize_t count = ::write(descriptor_, next, size);
    if (count < 0) {
      if (errno == EINTR) continue;
      fail("{}: cannot write the file: {}", path_.string(), reason());
    }
    next += count;
    size -= static_cast<size_t>(count);
  }
}

void AtomicFile::name_temporary() {
  const std::string unnamed = fmt::format("/proc/self/fd/{}", descriptor_);
  for (;;) {
    auto name = temporary_name(directory_of(path_));
    if (::linkat(AT_FDCWD, unnamed.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) == 0) {
      temporary_ = name;
      return;
    }
    if (errno != EEXIST) fail("{}: cannot give the finished file a name: {}", path_.string(), reason());
  }
}

void AtomicFile::commit() {
  require(descriptor_ >= 0, "{}: finished twice", path_.string());
  if (::fsync(descriptor_) != 0) fail("{}: cannot write the file to disk: {}", path_.string(), reason());
  if (temporary_.empty()) name_temporary();
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    fail("{}: cannot put the finished file in its place: {}", path_.string(), reason());
  }
  temporary_.clear();
  // The lock ends with the temporary name; after fsync nothing is left to be written.
  ::close(std::exchange(descriptor_, -1));
  sync_directory(directory_of(path_), path_);
}

void write_file(const std::filesystem::path& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content);
  file.commit();
}

namespace {

// A running SHA-256; OpenSSL's failures (out of memory) are Errors.
class Sha256 {
 public:
  Sha256() { check(context_ && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1); }
  void update(const void* data, size_t size) { check(EVP_DigestUpdate(context_.get(), data, size) == 1); }
  Sha256Digest digest() {
    Sha256Digest out;
    check(EVP_DigestFinal_ex(context_.get(), out.data(), nullptr) == 1);
    return out;
  }

 private:
  static void check(bool ok) { require(ok, "OpenSSL cannot compute a SHA-256"); }
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_{EVP_MD_CTX_new(), EVP_MD_CTX_free};
};

}  // namespace

Sha256Digest sha256_digest(std::string_view bytes) {
  Sha256 hash;
  hash.update(bytes.data(), bytes.size());
  return hash.digest();
}

std::string hex_digits(const Sha256Digest& digest) {
  std::string out;
  for (const uint8_t byte : digest) out += fmt::format("{:02x}", byte);
  return out;
}

std::string sha256_bytes(std::string_view bytes) { return hex_digits(sha256_digest(bytes)); }

std::string sha256_file(const std::filesystem::path& path) {
  Descriptor descriptor(open_for_reading(path));
  Sha256 hash;
  std::string buffer(1 << 20, '\0');
  while (size_t count = read_some(descriptor.get(), buffer.data(), buffer.size(), path)) {
    hash.update(buffer.data(), count);
  }
  return hex_digits(hash.digest());
}

}  // namespace cepe
