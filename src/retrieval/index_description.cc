#include "retrieval/index_description.h"

#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/json_text.h"
#include "io/hf_directory.h"
#include "io/json_file.h"
#include "retrieval/bert_encoder.h"
#include "retrieval/sqlite.h"
#include "tasks/json_members.h"

static_assert(std::endian::native == std::endian::little, "vectors are written as they lie in memory");

namespace cepe {
namespace {

using nlohmann::json;

constexpr int kVersion = 1;

}  // namespace

void check_index_words(const std::string& words, const std::string& option) {
  require(words == "unicode61" || words == "porter", "{}: expected unicode61 or porter, found \"{}\"", option, words);
}

void write_description(const std::filesystem::path& index, const IndexDescription& description) {
  json value = {{"cepe_index", kVersion}, {"words", description.words}, {"encoder", nullptr}};
  if (description.width > 0) {
    value["encoder"] = {{"directory", description.encoder.string()},
                        {"sha256", description.encoder_sha256},
                        {"width", description.width}};
  }
  if (description.graph) {
    value["graph"] = {{"links", description.graph->links}, {"candidates", description.graph->candidates}};
  }
  write_file(index / "index.json", json_text(value, 2) + "\n");
}

namespace {

GraphOptions graph_of(const json& value, const std::string& where) {
  const json& graph = json_member(value, "graph", json::value_t::object, where);
  const GraphOptions options{json_member(graph, "links", json::value_t::number_unsigned, where).get<int64_t>(),
                             json_member(graph, "candidates", json::value_t::number_unsigned, where).get<int64_t>()};
  check_graph_options(options, where);
  return options;
}

}  // namespace

IndexDescription read_description(const std::filesystem::path& index) {
  std::error_code error;
  const std::filesystem::path file = index / "index.json";
  require(std::filesystem::exists(file, error), "{}: not an index of passages: it has no index.json", index.string());
  const json value = read_json(file);
  const std::string where = file.string();
  require(value.is_object() && value.contains("cepe_index") && value["cepe_index"].is_number_integer(),
          "{}: expected a JSON object with a version \"cepe_index\"", where);
  require(value["cepe_index"] == kVersion, "{}: the index has version {}, version {} is read", where,
          value["cepe_index"].dump(), kVersion);
  IndexDescription description;
  description.words = json_text_of(value, "words", where);
  check_index_words(description.words, where + ": \"words\"");
  if (!value.contains("encoder") || value["encoder"].is_null()) return description;
  const json& encoder = json_member(value, "encoder", json::value_t::object, where);
  description.encoder = json_text_of(encoder, "directory", where);
  description.encoder_sha256 = json_text_of(encoder, "sha256", where);
  const json& width = json_member(encoder, "width", json::value_t::number_unsigned, where);
  description.width = width.get<int64_t>();
  require(description.width >= 1 && description.width <= 65536, "{}: expected a width from 1 to 65536, found {}", where,
          width.dump());
  if (value.contains("graph") && !value["graph"].is_null()) description.graph = graph_of(value, where);
  return description;
}

std::string encoder_sha256_of(const std::filesystem::path& encoder) {
  std::string hashes;
  const auto add = [&](const std::filesystem::path& file) { hashes += sha256_file(file); };
  for (const std::filesystem::path& file : weight_files(encoder)) add(file);
  add(encoder / "vocab.txt");
  add(encoder / "config.json");
  for (const char* name :
       {"tokenizer_config.json", "sentence_bert_config.json", "1_Pooling/config.json", "modules.json"}) {
    std::error_code error;
    hashes += name;  // a file that is not there is not the same as none of its name
    if (std::filesystem::exists(encoder / name, error)) add(encoder / name);
  }
  return sha256_bytes(hashes);
}

std::unique_ptr<BertEncoder> open_encoder(const std::filesystem::path& index, const IndexDescription& description,
                                          const std::filesystem::path& directory, const at::Device& device) {
  if (description.width == 0) {
    require(directory.empty(), "{}: the index has no vectors, so it needs no encoder {}", index.string(),
            directory.string());
    return nullptr;
  }
  const std::filesystem::path& path = directory.empty() ? description.encoder : directory;
  const std::string found = encoder_sha256_of(path);
  require(found == description.encoder_sha256,
          "{}: another encoder than the index {} was built with: expected the fingerprint {}, found {}", path.string(),
          index.string(), description.encoder_sha256, found);
  return std::make_unique<BertEncoder>(path, device);
}

std::filesystem::path vectors_file(const std::filesystem::path& index, int64_t generation) {
  return index / fmt::format("vectors-{}.f32", generation);
}

std::string vectors_header(int64_t width) {
  std::string header(static_cast<size_t>(kVectorHeader), '\0');
  std::memcpy(header.data(), "cepevec1", 8);
  std::memcpy(header.data() + 8, &width, sizeof width);
  return header;
}

VectorRows vector_rows(const MappedFile& file, int64_t width, int64_t slots) {
  return {reinterpret_cast<const float*>(file.bytes().data() + kVectorHeader), width, slots};
}

std::filesystem::path graph_file(const std::filesystem::path& index, int64_t generation) {
  return index / fmt::format("graph-{}.hnsw", generation);
}

GraphFile recorded_graph(const Database& database, const std::filesystem::path& index, int64_t generation) {
  Statement found(database, "SELECT slots, bytes, sha256 FROM graph WHERE generation = ?1");
  require(found.bind(generation).step(), "{}: the file is damaged: it says nothing of {}",
          passages_file(index).string(), graph_file(index, generation).filename().string());
  return {found.integer(0), found.integer(1), found.text(2)};
}

std::filesystem::path passages_file(const std::filesystem::path& index) { return index / "passages.sqlite"; }

int64_t slots_of(const Database& database, const std::filesystem::path& index) {
  const int64_t slots = database.integer("SELECT value FROM state WHERE name = 'slots'");
  const int64_t last = database.integer(
      "SELECT max((SELECT coalesce(max(slot), -1) FROM passages), (SELECT coalesce(max(slot), -1) FROM dead))");
  require(last < slots, "{}: the file is damaged: its state has {} slots, and slot {} is taken",
          passages_file(index).string(), slots, last);
  return slots;
}

void check_vectors(const MappedFile& file, int64_t width, int64_t slots) {
  const auto bytes = file.bytes();
  const std::string header = vectors_header(width);
  require(bytes.size() >= header.size() && std::memcmp(bytes.data(), header.data(), header.size()) == 0,
          "{}: the file is damaged: it does not begin as vectors of {} numbers do", file.path().string(), width);
  // Divided, not multiplied: a damaged count times the width may be beyond 64 bits.
  const int64_t held = (static_cast<int64_t>(bytes.size()) - kVectorHeader) / (width * int64_t{sizeof(float)});
  require(slots >= 0 && slots <= held, "{}: the file is damaged: it has {} bytes, room for {} vectors, expected {}",
          file.path().string(), bytes.size(), held, slots);
}

}  // namespace cepe
