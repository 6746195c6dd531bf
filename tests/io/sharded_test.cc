#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"
#include "base/temporary_directory.h"
#include "io/safetensors.h"
#include "io/sharded_source.h"

namespace cepe {
namespace {

std::unique_ptr<TensorSource> open(const std::filesystem::path& path) {
  return std::make_unique<SafetensorsFile>(path);
}

// Two shards: a and b in one, c in the other.
class ShardedTest : public ::testing::Test {
 protected:
  ShardedTest() {
    write("one.safetensors", {"b", "a"});
    write("two.safetensors", {"c"});
  }
  void write(const std::string& file, const std::vector<std::string>& names) {
    std::vector<TensorView> tensors;
    for (const auto& name : names) tensors.push_back({name, DType::u8, {4}, std::as_bytes(std::span(content_))});
    write_safetensors(directory_ / file, tensors, {});
  }
  std::string message(const std::string& index) {
    std::ofstream(index_) << index;
    return error_of<Error>([&] { ShardedSource source(index_, open); });
  }
  TemporaryDirectory directory_;
  std::string content_ = "1234", index_ = directory_ / "model.safetensors.index.json";
};

TEST_F(ShardedTest, IsOneSource) {
  std::ofstream(index_) << R"({"metadata": {"total_size": 12},
    "weight_map": {"a": "one.safetensors", "b": "one.safetensors", "c": "two.safetensors"}})";
  ShardedSource source(index_, open);
  ASSERT_EQ(source.tensors().size(), 3u);
  EXPECT_EQ(source.tensors()[0].name, "b");  // file order within a shard
  for (const char* name : {"a", "b", "c"}) {
    const TensorView* tensor = source.find(name);
    ASSERT_NE(tensor, nullptr) << name;
    EXPECT_EQ(tensor->name, name);
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(tensor->bytes.data()), 4), "1234");
  }
  EXPECT_EQ(source.find("d"), nullptr);
  EXPECT_EQ(source.path(), index_);
}

TEST_F(ShardedTest, RefusesAnIndexThatDoesNotFit) {
  EXPECT_EQ(message(R"({"weight_map": {"a": "two.safetensors"}})"),
            index_ + ": names tensor a in two.safetensors, which does not have it");
  EXPECT_EQ(message(R"({"weight_map": {"a": "three.safetensors"}})"),
            (directory_ / "three.safetensors").string() + ": cannot open the file: No such file or directory");
  for (const char* outside : {"../one.safetensors", "/etc/passwd", "..", "sub/one.safetensors"}) {
    EXPECT_EQ(
        message(std::string(R"({"weight_map": {"a": ")") + outside + "\"}}"),
        index_ + ": weight_map: the file of tensor a is " + outside + ", expected a file name without a directory");
  }
  EXPECT_EQ(message(R"({"weight_map": {"a": 1}})"), index_ + ": weight_map: the file of tensor a is not a string");
  EXPECT_EQ(message(R"({"weight_map": {}})"), index_ + ": its weight_map names no tensor");
  EXPECT_EQ(message("{}"), index_ + ": has no object weight_map that names each tensor's file");
  EXPECT_EQ(message("[1]"), index_ + ": has no object weight_map that names each tensor's file");
  EXPECT_EQ(message("{\"weight_map\""), index_ + ": not valid JSON in UTF-8: it breaks off or goes wrong at byte 14");
}

}  // namespace
}  // namespace cepe
