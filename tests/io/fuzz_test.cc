// Deterministic mutation fuzzing of the two parsers: a mutated file is read, and then whole, or refused with an
// Error. Anything else (a crash, another exception, a read past the end) ends the program; the sanitize preset sees
// reads past the end too, since MappedFile marks the rest of its last page.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <random>

#include "base/error.h"
#include "io/gguf.h"
#include "io/gguf_bytes.h"
#include "io/layout.h"
#include "io/memory_file.h"
#include "io/pickle_bytes.h"
#include "io/pickle_file.h"
#include "io/safetensors.h"

namespace cepe {
namespace {

constexpr int kRounds = 50000;

// Draws straight from the engine: the standard's distributions differ between libraries.
class Mutator {
 public:
  Mutator(uint64_t seed, std::vector<std::string> corpus) : engine_(seed), corpus_(std::move(corpus)) {}

  std::string next() {
    std::string file = corpus_[below(corpus_.size())];
    for (size_t count = 1 + below(4); count > 0 && !file.empty(); --count) mutate(file);
    return file;
  }
  size_t below(size_t limit) { return engine_() % limit; }

 private:
  void mutate(std::string& file) {
    // Most of a file is tensor data, which any bits fit: aim at its front half of the time.
    size_t reach = below(2) ? file.size() : std::min<size_t>(file.size(), 1024);
    size_t at = below(reach);
    switch (below(8)) {
      case 0: file[at] = static_cast<char>(file[at] ^ 1 << below(8)); break;
      case 1: file[at] = static_cast<char>(engine_()); break;
      case 2: file.resize(at); break;
      case 3: file.erase(at, 1 + below(16)); break;
      case 4: file.insert(at, file.substr(below(file.size()), 1 + below(64))); break;
      case 5: splice(file, at); break;
      case 6: edit_length(file, at); break;
      default: edit_digits(file, at);
    }
  }
  // A piece of any seed over this one.
  void splice(std::string& file, size_t at) {
    const std::string& other = corpus_[below(corpus_.size())];
    std::string piece = other.substr(below(other.size()), 1 + below(128));
    file.replace(at, piece.size(), piece);
  }
  // A length that hurts, in 4 or 8 bytes.
  void edit_length(std::string& file, size_t at) {
    uint64_t value = nasty(file.size());
    size_t width = below(2) ? 8 : 4;
    if (at + width <= file.size()) std::memcpy(file.data() + at, &value, width);
  }
  // A number of the JSON header.
  void edit_digits(std::string& file, size_t at) {
    size_t begin = file.find_first_of("0123456789", at);
    if (begin == std::string::npos) return;
    size_t end = std::min(file.find_first_not_of("0123456789", begin), file.size());
    file.replace(begin, end - begin, (below(8) ? "" : "-") + std::to_string(nasty(file.size())));
  }
  uint64_t nasty(size_t size) {
    const uint64_t values[] = {0,
                               1,
                               2,
                               7,
                               8,
                               31,
                               32,
                               255,
                               256,
                               size,
                               size - 1,
                               size + 1,
                               size / 2,
                               uint64_t{1} << 31,
                               (uint64_t{1} << 32) - 1,
                               uint64_t{1} << 32,
                               uint64_t{1} << 62,
                               uint64_t{1} << 63,
                               UINT64_MAX,
                               UINT64_MAX - 7,
                               UINT64_MAX / 4,
                               engine_()};
    return values[below(std::size(values))];
  }

  std::mt19937_64 engine_;
  std::vector<std::string> corpus_;
};

// Everything a caller may do with what was read.
void use(const TensorSource& source, uint64_t most_bytes) {
  uint64_t bytes = 0;
  for (const auto& tensor : source.tensors()) {
    ASSERT_EQ(tensor_bytes(tensor.dtype, tensor.shape), tensor.bytes.size());
    ASSERT_TRUE(is_valid_name(tensor.name));
    ASSERT_EQ(source.find(tensor.name), &tensor);
    bytes += tensor.bytes.size();
    ASSERT_LE(bytes, most_bytes);
    try {
      std::vector<float> values(static_cast<size_t>(tensor.elements()));
      decode_to_f32(tensor, values.data());
    } catch (const Error&) {
      // integers
    }
  }
}

struct Outcome {
  int read = 0, refused = 0;
};

template <typename File>
Outcome fuzz(Mutator& mutator, const std::function<void(std::string&)>& repair) {
  MemoryFile mutant;
  const std::string path = mutant.path();
  Outcome outcome;
  for (int round = 0; round < kRounds; ++round) {
    std::string content = mutator.next();
    if (mutator.below(2)) repair(content);
    mutant.set(content);
    try {
      File file(path);
      // Tensors of a pickle may share bytes, each has no more than the file.
      const uint64_t sharing = std::is_same_v<File, PickleFile> ? file.tensors().size() : 1;
      use(file, content.size() * sharing);
      ++outcome.read;
    } catch (const Error& error) {
      std::string message = error.what();
      EXPECT_EQ(message.rfind(path + ": ", 0), 0u) << message;
      EXPECT_EQ(message.find('\n'), std::string::npos) << message;
      EXPECT_LT(message.size(), path.size() + 2600) << message;  // two names at most
      ++outcome.refused;
    }
  }
  return outcome;
}

// A small file with every construct of the format, for its share of mutations in the header.
std::string small_gguf() {
  GgufBytes bytes;
  bytes.header(3, 5).value<uint32_t>("general.alignment", kU32, 8);
  bytes.value<float>("f", kF32, 1).value<bool>("b", kBool, 1);
  bytes.text("s").put<uint32_t>(kString).text("text");
  bytes.text("a").put<uint32_t>(kArray).put<uint32_t>(kString).put<uint64_t>(2).text("x").text("yz");
  return bytes.tensor("t", {2, 3}, 0, 0).tensor("u", {32}, 2, 24).tensor("v", {256}, 12, 48).data(192, 8).str();
}

TEST(Fuzz, Gguf) {
  Mutator mutator(1, {read_file(CEPE_TEST_DATA "/io/blocks.gguf"), small_gguf(), small_gguf()});
  Outcome outcome = fuzz<GgufFile>(mutator, [](std::string& file) {
    if (file.size() >= 8) file.replace(0, 8, std::string("GGUF\3\0\0\0", 8));  // past the first check
  });
  EXPECT_GT(outcome.read, kRounds / 50);
  EXPECT_GT(outcome.refused, kRounds / 4);
}

TEST(Fuzz, Safetensors) {
  std::string header = R"({"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},)"
                       R"("b":{"dtype":"I8","shape":[],"data_offsets":[8,9]},"__metadata__":{"k":"v"}})";
  uint64_t size = header.size();
  std::string small = std::string(reinterpret_cast<const char*>(&size), 8) + header + "123456789";
  Mutator mutator(2, {read_file(CEPE_TEST_DATA "/io/plain.safetensors"), small, small});
  Outcome outcome = fuzz<SafetensorsFile>(mutator, [](std::string& file) {
    // The header's length made right again, so that mutations of the JSON are looked at.
    size_t end = file.rfind('}');
    if (file.size() < 8 || end == std::string::npos || end < 8) return;
    uint64_t length = end + 1 - 8;
    std::memcpy(file.data(), &length, 8);
  });
  EXPECT_GT(outcome.read, kRounds / 50);
  EXPECT_GT(outcome.refused, kRounds / 4);
}

// Mutations of the archive. Half of them get a directory that fits again, so that the pickle is looked at.
TEST(Fuzz, PickledCheckpoint) {
  const std::string entries =
      pickled(PickleEntry{}) + pickled(PickleEntry{.name = "v", .shape = {3, 2}, .stride = {1, 3}});
  const std::string small = checkpoint_of(pickle_of(entries));
  Mutator mutator(3, {read_file(CEPE_TEST_DATA "/pickle/ordered.bin"), small, small});
  Outcome outcome = fuzz<PickleFile>(mutator, [](std::string& file) {
    const size_t begin = file.find("\x80\x02"), end = file.rfind("u.");
    if (begin == std::string::npos || end == std::string::npos || end < begin) return;
    file = checkpoint_of(file.substr(begin, end + 2 - begin));
  });
  EXPECT_GT(outcome.read, kRounds / 50);
  EXPECT_GT(outcome.refused, kRounds / 4);
}

}  // namespace
}  // namespace cepe
