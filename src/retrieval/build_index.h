// A new index of passages.
#pragma once

#include <filesystem>
#include <functional>

#include "retrieval/index_writer.h"

namespace cepe {

// Makes an index of all passages that `fill` adds. It is built in a temporary directory beside its place, synced to
// disk and renamed: whoever looks sees no index or the whole one. The temporary directories beside it that nobody has
// locked, those of killed processes, are removed. Error where something stands in its place already.
IndexChanges build_index(const std::filesystem::path& index, const IndexDescription& description,
                         const BertEncoder* encoder, const std::function<void(IndexWriter&)>& fill);

}  // namespace cepe
