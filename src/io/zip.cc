#include "io/zip.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>

#include "base/error.h"
#include "io/layout.h"

namespace cepe {
namespace {

// Signatures and sizes of PKWARE's APPNOTE 6.3, sections 4.3.7 to 4.3.16.
constexpr uint32_t kLocalHeader = 0x04034b50, kDirectoryEntry = 0x02014b50, kDirectoryEnd = 0x06054b50;
constexpr uint32_t kZip64End = 0x06064b50, kZip64Locator = 0x07064b50;
constexpr size_t kLocalSize = 30, kEntrySize = 46, kEndSize = 22, kLocatorSize = 20;
constexpr uint64_t kWide = 0xFFFFFFFF;  // "see the 64-bit field" in a field of 32 bits
constexpr uint64_t kWideCount = 0xFFFF;

class ZipReader {
 public:
  ZipReader(const std::filesystem::path& path, std::span<const std::byte> file) : path_(path.string()), file_(file) {}

  ZipRecords records() {
    find_directory();
    ZipRecords records;
    uint64_t at = directory_;
    for (uint64_t i = 0; i < count_; ++i) {
      const Entry entry = read_entry(at);
      if (entry.name.ends_with('/')) continue;  // a directory
      require(records.emplace(entry.name, bytes_of(entry)).second, "{}: the zip archive holds the record {} twice",
              path_, quotable(entry.name));
    }
    return records;
  }

 private:
  struct Entry {
    std::string_view name;
    uint64_t size = 0, header = 0;
  };

  template <typename T>
  T get(uint64_t at) const {
    require(at <= file_.size() && sizeof(T) <= file_.size() - at, "{}: the zip archive's directory is damaged", path_);
    T value;
    std::memcpy(&value, file_.data() + at, sizeof value);
    return value;
  }
  std::string_view text(uint64_t at, uint64_t size) const {
    require(at <= file_.size() && size <= file_.size() - at, "{}: the zip archive's directory is damaged", path_);
    return {reinterpret_cast<const char*>(file_.data()) + at, size};
  }

  // The end of the directory stands at the end of the file, before a comment of up to 65535 bytes.
  uint64_t find_end() const {
    for (uint64_t back = kEndSize; back <= std::min<uint64_t>(file_.size(), kEndSize + 65535); ++back) {
      const uint64_t at = file_.size() - back;
      if (get<uint32_t>(at) == kDirectoryEnd && get<uint16_t>(at + 20) == back - kEndSize) return at;
    }
    fail("{}: the zip archive has no directory at its end (is the file cut off?)", path_);
  }

  void find_directory() {
    const uint64_t end = find_end();
    uint64_t size = get<uint32_t>(end + 12);
    count_ = get<uint16_t>(end + 10);
    directory_ = get<uint32_t>(end + 16);
    if (count_ == kWideCount || size == kWide || directory_ == kWide) {
      require(end >= kLocatorSize && get<uint32_t>(end - kLocatorSize) == kZip64Locator,
              "{}: the zip archive's directory is damaged", path_);
      const uint64_t wide = get<uint64_t>(end - kLocatorSize + 8);
      require(get<uint32_t>(wide) == kZip64End, "{}: the zip archive's directory is damaged", path_);
      count_ = get<uint64_t>(wide + 32);
      size = get<uint64_t>(wide + 40);
      directory_ = get<uint64_t>(wide + 48);
    }
    require(directory_ <= end && size <= end - directory_ && count_ <= size / kEntrySize,
            "{}: the zip archive's directory is damaged", path_);
  }

  // Reads the entry and moves on to the next.
  Entry read_entry(uint64_t& at) const {
    require(get<uint32_t>(at) == kDirectoryEntry, "{}: the zip archive's directory is damaged", path_);
    const uint64_t name_size = get<uint16_t>(at + 28), extra_size = get<uint16_t>(at + 30);
    Entry entry{text(at + kEntrySize, name_size), get<uint32_t>(at + 24), get<uint32_t>(at + 42)};
    require((get<uint16_t>(at + 8) & 1) == 0, "{}: the record {} is encrypted", path_, quotable(entry.name));
    require(get<uint16_t>(at + 10) == 0, "{}: the record {} is compressed; torch.save stores its records as they are",
            path_, quotable(entry.name));
    uint64_t packed = get<uint32_t>(at + 20);
    read_wide_fields(text(at + kEntrySize + name_size, extra_size), {&entry.size, &packed, &entry.header});
    require(packed == entry.size, "{}: the record {} is stored in {} bytes, expected its size, {}", path_,
            quotable(entry.name), packed, entry.size);
    at += kEntrySize + name_size + extra_size + get<uint16_t>(at + 32);
    return entry;
  }

  // Extra field 1 holds the 64-bit values of those of the fields, in this order, whose 32 bits are all set.
  void read_wide_fields(std::string_view extra, std::initializer_list<uint64_t*> fields) const {
    while (extra.size() >= 4) {
      uint16_t id = 0, size = 0;
      std::memcpy(&id, extra.data(), 2);
      std::memcpy(&size, extra.data() + 2, 2);
      extra.remove_prefix(4);
      std::string_view values = extra.substr(0, size);
      extra.remove_prefix(values.size());
      if (id != 1) continue;
      for (uint64_t* field : fields) {
        if (*field != kWide || values.size() < 8) continue;
        std::memcpy(field, values.data(), 8);
        values.remove_prefix(8);
      }
    }
  }

  std::span<const std::byte> bytes_of(const Entry& entry) const {
    require(get<uint32_t>(entry.header) == kLocalHeader, "{}: the record {} does not begin where the directory says",
            path_, quotable(entry.name));
    const uint64_t begin =
        entry.header + kLocalSize + get<uint16_t>(entry.header + 26) + get<uint16_t>(entry.header + 28);
    require(begin <= directory_ && entry.size <= directory_ - begin,
            "{}: the record {} reaches past the archive's data", path_, quotable(entry.name));
    return file_.subspan(begin, entry.size);
  }

  std::string path_;
  std::span<const std::byte> file_;
  uint64_t directory_ = 0, count_ = 0;  // where the directory begins, and its entries
};

}  // namespace

ZipRecords read_zip_records(const std::filesystem::path& path, std::span<const std::byte> file) {
  return ZipReader(path, file).records();
}

}  // namespace cepe
