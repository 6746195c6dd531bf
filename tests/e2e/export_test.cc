// The exported directory is the one that the published code read when tests/golden/published-export was recorded, and
// cepe computes with it what the published code computed.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "e2e/run_cepe.h"
#include "io/hf_directory.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;

const fs::path kGolden = fs::path(CEPE_TEST_DATA) / "published-export";

class PublishedExport : public testing::Test {
 protected:
  void SetUp() override {
    const CommandResult result = run_cepe({"export", "--model", (kGolden / "trained").string(), "--base",
                                           (kGolden / "base").string(), "--out", out_.string()});
    ASSERT_EQ(result.status, 0) << result.err;
  }
  TemporaryDirectory directory_;
  fs::path out_ = directory_.path() / "out";
};

TEST_F(PublishedExport, WritesTheFilesThatThePublishedCodeRead) {
  const nlohmann::json recorded = read_json(kGolden / "export.json");
  ASSERT_EQ(recorded.size(), 2u);
  for (const auto& [name, hash] : recorded.items())
    EXPECT_EQ(sha256_file(out_ / name), hash.get<std::string>()) << name;
}

TEST_F(PublishedExport, ComputesWhatThePublishedCodeComputed) {
  fs::copy_file(kGolden / "expected.safetensors", out_ / "expected.safetensors");
  const CommandResult result = run_cepe({"verify", out_.string()});
  EXPECT_EQ(result.status, 0) << result.err << result.out;
  EXPECT_NE(result.out.find("8 quantities, 0 beyond 2e-05 of the norm, 0 unknown: passed"), std::string::npos)
      << result.out;
}

}  // namespace
}  // namespace cepe
