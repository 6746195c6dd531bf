// Builds zip archives and pickles byte by byte, right or wrong.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cepe {

// The lowest `bytes` bytes of a number, little-endian.
inline std::string little_endian(uint64_t value, int bytes) {
  std::string out;
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(i < 8 ? value >> 8 * i : 0);
  return out;
}

struct ZipRecord {
  std::string name, bytes;
  uint16_t method = 0, flags = 0;
  uint32_t claimed_size = 0;  // in the directory; 0: the real one
};

inline std::string zip_of(const std::vector<ZipRecord>& records) {
  std::string file, directory;
  for (const ZipRecord& record : records) {
    const uint32_t size = record.claimed_size ? record.claimed_size : static_cast<uint32_t>(record.bytes.size());
    const std::string common = little_endian(20, 2) + little_endian(record.flags, 2) + little_endian(record.method, 2) +
                               little_endian(0, 8) + little_endian(size, 4) + little_endian(size, 4) +
                               little_endian(record.name.size(), 2) + little_endian(0, 2);
    directory += "PK\1\2" + little_endian(20, 2) + common + little_endian(0, 10) + little_endian(file.size(), 4);
    directory += record.name;
    file += "PK\3\4" + common + record.name + record.bytes;
  }
  const std::string count = little_endian(records.size(), 2);
  const std::string end = "PK\5\6" + little_endian(0, 4) + count + count + little_endian(directory.size(), 4) +
                          little_endian(file.size(), 4) + little_endian(0, 2);
  return file + directory + end;
}

// One entry of a dictionary, as torch.save writes it; the letters are those of Python's pickletools.
struct PickleEntry {
  std::string name = "w", type = "FloatStorage", key = "0";
  int64_t elements = 6, offset = 0;
  std::vector<int64_t> shape = {2, 3}, stride = {3, 1};
  std::string rebuild = "torch._utils\n_rebuild_tensor_v2";
};

inline std::string pickled(std::string_view text) { return "X" + little_endian(text.size(), 4) + std::string(text); }
inline std::string pickled(int64_t value) { return "\x8a\x08" + little_endian(static_cast<uint64_t>(value), 8); }
inline std::string pickled(const std::vector<int64_t>& values) {
  std::string out = "(";
  for (const int64_t value : values) out += pickled(value);
  return out + "t";
}
inline std::string pickled(const PickleEntry& entry) {
  const std::string storage = "(" + pickled("storage") + "ctorch\n" + entry.type + "\n" + pickled(entry.key) +
                              pickled("cpu") + pickled(entry.elements) + "tQ";
  return pickled(entry.name) + "c" + entry.rebuild + "\n(" + storage + pickled(entry.offset) + pickled(entry.shape) +
         pickled(entry.stride) + "\x89" + "ccollections\nOrderedDict\n)RtR";
}
// The pickle of a dictionary of such entries.
inline std::string pickle_of(const std::string& entries) { return "\x80\x02}(" + entries + "u."; }

// A checkpoint of one storage, "0", of six floats.
inline std::string checkpoint_of(const std::string& pickle, size_t storage_bytes = 24) {
  return zip_of({{"archive/data.pkl", pickle}, {"archive/data/0", std::string(storage_bytes, '\1')}});
}

}  // namespace cepe
