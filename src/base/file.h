// Files: whole reads, memory maps and writes that are never half done.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace cepe {

// The whole file as bytes. Throws Error when it is not there, CannotRead (base/cannot_read.h) when that fails.
std::string read_file(const std::filesystem::path& path);

// A read-only memory map of a whole file; the bytes live as long as the object. Movable, not copyable.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// Writes a file so that a reader, or a crash, sees either the old content or the whole new one: a temporary
// file in the same directory, fsync, rename, fsync of the directory. write() appends; commit() makes the
// file visible; without commit() nothing is left. Throws Error on a full disk or an unwritable directory, naming the
// file and the system's reason.
//
// The temporary file has no name until commit() where the file system allows that, so a killed process leaves none.
// Elsewhere it is called .cepe-<process>-<number>.tmp and locked (flock) as long as it is written. The first AtomicFile
// of a process in a directory removes the files of such names that nobody has locked: those of killed processes.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, size_t size);
  void write(std::string_view text) { write(text.data(), text.size()); }
  void commit();

 private:
  bool open_temporary(const std::filesystem::path& directory);
  void name_temporary();

  std::filesystem::path path_, temporary_;  // temporary_: empty while the temporary file has no name
  int descriptor_ = -1;
};

void write_file(const std::filesystem::path& path, std::string_view content);

using Sha256Digest = std::array<uint8_t, 32>;
Sha256Digest sha256_digest(std::string_view bytes);
std::string hex_digits(const Sha256Digest& digest);  // 64 in lower case
// SHA-256 of bytes, or of a file's bytes, as 64 lower-case hex digits.
std::string sha256_bytes(std::string_view bytes);
std::string sha256_file(const std::filesystem::path& path);

}  // namespace cepe
