// Through the binary: the losses of short runs are those that were recorded (tests/golden/training/record.py).
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/temporary_directory.h"

namespace cepe {
namespace {

const std::string kRecorded = CEPE_TEST_DATA "/training";

int run(const std::string& arguments) {
  return std::system(("OMP_NUM_THREADS=1 " CEPE_BINARY " " + arguments + " > /dev/null").c_str());
}

class RecordedLosses : public testing::TestWithParam<const char*> {};

TEST_P(RecordedLosses, AreTheSame) {
  const std::string name = GetParam(), base = name.substr(0, name.find(' ')), precision = name.substr(base.size() + 1);
  const nlohmann::json all = nlohmann::json::parse(read_file(kRecorded + "/losses.json"));
  const std::vector<double> recorded = all.at(name).get<std::vector<double>>();
  ASSERT_EQ(recorded.size(), 20u);
  const TemporaryDirectory directory;
  const std::string model = CEPE_TEST_DATA "/generate/" + base, shards = (directory / "shards").string(),
                    result = (directory / "run").string();
  ASSERT_EQ(run("data --model " + model + " --out " + shards + " " + kRecorded + "/corpus.jsonl"), 0);
  ASSERT_EQ(run("train " + kRecorded + "/train.toml --run " + result + " --device cpu --model.base=" + model +
                " --data.train=" + shards + " --train.precision=" + precision),
            0);
  // Sums of bfloat16 products are rounded in another order on another processor, and 20 steps carry that on.
  const double tolerance = precision == "float32" ? 1e-5 : 1e-2;
  std::ifstream lines(result + "/log.jsonl");
  size_t step = 0;
  for (std::string line; std::getline(lines, line);) {
    const nlohmann::json record = nlohmann::json::parse(line);
    if (!record.contains("loss")) continue;
    ASSERT_LT(step, recorded.size());
    EXPECT_NEAR(record["loss"].get<double>() / recorded[step], 1.0, tolerance) << "step " << step + 1;
    ++step;
  }
  EXPECT_EQ(step, recorded.size());
}

INSTANTIATE_TEST_SUITE_P(Runs, RecordedLosses,
                         testing::Values("plain float32", "plain bfloat16", "published float32", "published bfloat16"),
                         [](const auto& info) {
                           std::string name = info.param;
                           name[name.find(' ')] = '_';
                           return name;
                         });

}  // namespace
}  // namespace cepe
