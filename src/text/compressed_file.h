// A file's bytes, decompressed where it is compressed.
#pragma once

#include <filesystem>
#include <memory>

namespace cepe {

// Streams a file as it is, or what a zstd or gzip stream in it holds: one that its name promises (.zst, .gz), or that
// its first bytes say. Streams may have several frames or members one after another; zstd windows of up to 2 GiB (zstd
// --long=31) are taken. Errors name the file.
class CompressedFile {
 public:
  // Error when the file cannot be opened or read.
  explicit CompressedFile(const std::filesystem::path& path);
  ~CompressedFile();
  CompressedFile(const CompressedFile&) = delete;
  CompressedFile& operator=(const CompressedFile&) = delete;

  // Up to `size` bytes into `out`; 0 at the end. Error on a damaged or truncated stream.
  size_t read(char* out, size_t size);

 private:
  class Stored;
  class Decoder;
  class Plain;
  class Zstd;
  class Gzip;
  std::unique_ptr<Stored> stored_;
  std::unique_ptr<Decoder> decoder_;
};

}  // namespace cepe
