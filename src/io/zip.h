// The directory of a zip archive, as far as torch.save writes one: records that are stored, not compressed, so that
// each is a range of the file's own bytes (docs/formats/pickle.md). Nothing is allocated from a size in the file.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <span>
#include <string_view>

namespace cepe {

// The records of the archive by name. Names and bytes are views into `file`, whose path the errors name.
// Throws Error for what is no zip archive or cut off, for compressed or encrypted records, for records outside of the
// file and for two of one name.
using ZipRecords = std::map<std::string_view, std::span<const std::byte>>;
ZipRecords read_zip_records(const std::filesystem::path& path, std::span<const std::byte> file);

}  // namespace cepe
