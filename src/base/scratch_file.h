// Bytes that are too many for memory, for as long as the process needs them.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string_view>

namespace cepe {

// A file without a name, written once from its beginning to its end and then read through a memory map, whose pages
// the system drops when memory runs short and reads again. Nothing is left of it, whatever ends the process.
class ScratchFile {
 public:
  // In a directory, which must be there. Error naming it where no file can be made.
  explicit ScratchFile(const std::filesystem::path& directory);
  ~ScratchFile();
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;

  // Appends; not after map(). Error naming the directory, as on a full disk.
  void write(std::string_view bytes);
  // All that was written. Valid as long as the object; called again, the same. Error where it cannot be mapped.
  std::string_view map();

 private:
  std::filesystem::path directory_;
  int descriptor_ = -1;
  size_t size_ = 0;
  char* data_ = nullptr;
};

}  // namespace cepe
