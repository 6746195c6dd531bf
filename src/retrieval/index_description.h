// An index of passages on disk, a directory (docs/formats/index.md):
//
//   index.json         what the index is: written once, when it is built
//   passages.sqlite    passages, their words (FTS5), and the state that a commit changes
//   vectors-N.f32      a vector for each passage, where the index has an encoder; N: the state's generation
//   graph-N.hnsw       links between near vectors, where the index was built with a graph
//   lock               held (flock) by whoever writes
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "vectors/vector_graph.h"

namespace at {
using c10::Device;
}

namespace cepe {

class BertEncoder;
class Database;
class MappedFile;

struct IndexDescription {
  // How words are told apart and compared: "unicode61" (lower case, without accents), or "porter" (English word stems
  // besides).
  std::string words = "unicode61";
  std::filesystem::path encoder;                     // a directory; empty: words alone are searched
  std::string encoder_sha256;                        // encoder_sha256_of()
  int64_t width = 0;                                 // numbers of a vector; 0: no encoder
  std::optional<GraphOptions> graph = std::nullopt;  // of the vectors
};

// Error where a word rule is unknown, naming the option.
void check_index_words(const std::string& words, const std::string& option);

void write_description(const std::filesystem::path& index, const IndexDescription& description);
// Error where the directory is no index, is damaged, or of a version that is not read.
IndexDescription read_description(const std::filesystem::path& index);

// The SHA-256 of the SHA-256s of all files that BertEncoder reads: weights, vocab.txt, config.json and, where they are
// there, those of the tokenizer's, length's, pooling's and modules' settings.
std::string encoder_sha256_of(const std::filesystem::path& encoder);

// The index's encoder from where it was when the index was built or, where `directory` is not empty, from there; null
// where the index has none. Error where it is another encoder than the vectors were made with.
std::unique_ptr<BertEncoder> open_encoder(const std::filesystem::path& index, const IndexDescription& description,
                                          const std::filesystem::path& directory, const at::Device& device);

// Where vectors of a generation stand: a header of kVectorHeader bytes ("cepevec1", the width as 64 bits, zeros), then
// rows of float32, little-endian; row s is slot s.
constexpr int64_t kVectorHeader = 64;
std::filesystem::path vectors_file(const std::filesystem::path& index, int64_t generation);
std::string vectors_header(int64_t width);
// The rows of a file that check_vectors() has looked at; it must outlive them.
VectorRows vector_rows(const MappedFile& file, int64_t width, int64_t slots);

std::filesystem::path graph_file(const std::filesystem::path& index, int64_t generation);
// What the state says of the graph of a generation: how many slots it links, from 0 on, and what its file is. Error
// where it says nothing.
GraphFile recorded_graph(const Database& database, const std::filesystem::path& index, int64_t generation);

std::filesystem::path passages_file(const std::filesystem::path& index);

// How many slots the state says are taken. Error where a passage, or a deleted one, has a slot beyond them.
int64_t slots_of(const Database& database, const std::filesystem::path& index);
// Error where the file does not begin as vectors of that width do, or is too short for so many.
void check_vectors(const MappedFile& file, int64_t width, int64_t slots);

}  // namespace cepe
