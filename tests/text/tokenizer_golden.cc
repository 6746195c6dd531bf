#include "text/tokenizer_golden.h"

#include <unistd.h>
#include <zstd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>

#include "base/error.h"
#include "base/file.h"

namespace cepe::golden {

using nlohmann::json;

std::filesystem::path directory() { return std::filesystem::path(CEPE_TEST_DATA) / "tokenizer"; }

std::string read_zst(const std::string& name) {
  const std::string packed = read_file(directory() / name);
  std::string content(ZSTD_getFrameContentSize(packed.data(), packed.size()), '\0');
  const size_t size = ZSTD_decompress(content.data(), content.size(), packed.data(), packed.size());
  require(!ZSTD_isError(size) && size == content.size(), "{} cannot be unpacked", name);
  return content;
}

const std::vector<std::string>& texts() {
  static const auto value = json::parse(read_zst("texts.json.zst")).get<std::vector<std::string>>();
  return value;
}

const json& cases() {
  static const json value = json::parse(read_file(directory() / "cases.json"));
  return value;
}

uint64_t hash_of(std::span<const TokenId> ids) {
  Hash hash;
  for (const TokenId id : ids) hash.add(static_cast<uint64_t>(id));
  return hash.value();
}

uint64_t hash_of(std::string_view bytes) {
  Hash hash;
  for (const char c : bytes) hash.add(static_cast<unsigned char>(c));
  return hash.value();
}

std::vector<uint64_t> read_hashes(const std::string& name) {
  const std::string bytes = read_file(directory() / name);
  std::vector<uint64_t> hashes(bytes.size() / 8);
  std::memcpy(hashes.data(), bytes.data(), hashes.size() * 8);
  return hashes;
}

uint64_t recorded(size_t index, size_t text, int which) {
  static const auto hashes = read_hashes("hashes.bin");
  return hashes.at((index * texts().size() + text) * 2 + which);
}

Vocabulary vocabulary(const std::string& name) {
  const json stored = json::parse(read_zst(name + ".vocabulary.zst"));
  Vocabulary result{stored["tokens"], stored["merges"]};
  if (name == "metaspace") return result;  // its tokens are listed whole
  for (std::string merged : result.merges) {
    merged.erase(merged.find(' '), 1);
    result.tokens.push_back(std::move(merged));
  }
  return result;
}

json tokenizer_json(const json& entry) {
  const Vocabulary words = vocabulary(entry["vocabulary"]);
  json tokenizer = entry["tokenizer"];
  json& model = tokenizer["model"];
  model["vocab"] = json::object();
  for (size_t id = 0; id < words.tokens.size(); ++id) model["vocab"][words.tokens[id]] = id;
  model["merges"] = json::array();
  for (const std::string& merge : words.merges) {
    const size_t space = merge.find(' ');
    if (entry["merge_pairs"]) {
      model["merges"].push_back({merge.substr(0, space), merge.substr(space + 1)});
    } else {
      model["merges"].push_back(merge);
    }
  }
  return tokenizer;
}

GgufVocabulary gguf_vocabulary(const json& entry) {
  Vocabulary words = vocabulary(entry["vocabulary"]);
  GgufVocabulary result;
  result.model = "gpt2";
  result.pre = entry["gguf"];
  result.tokens = std::move(words.tokens);
  result.merges = std::move(words.merges);
  result.token_types.assign(result.tokens.size(), 1);
  for (const json& token : entry["tokenizer"]["added_tokens"]) {
    const size_t id = token["id"];
    if (id >= result.tokens.size()) result.tokens.resize(id + 1), result.token_types.resize(id + 1, 1);
    result.tokens[id] = token["content"];
    result.token_types[id] = token["special"] ? 3 : 4;
  }
  return result;
}

ScratchDirectory::ScratchDirectory() {
  std::string pattern = (std::filesystem::temp_directory_path() / "cepe-tokenizer-XXXXXX").string();
  require(mkdtemp(pattern.data()) != nullptr, "cannot make a temporary directory");
  path_ = pattern;
}

ScratchDirectory::~ScratchDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::filesystem::path ScratchDirectory::file(const std::string& name, std::string_view content) const {
  std::ofstream(path_ / name, std::ios::binary) << content;
  return path_ / name;
}

}  // namespace cepe::golden
