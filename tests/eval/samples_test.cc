#include "eval/samples.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>

#include "base/error.h"
#include "base/file.h"
#include "base/temporary_directory.h"

namespace cepe {
namespace {

using nlohmann::json;
using testing::HasSubstr;

TEST(SampleFile, KeepsRecordsInOrder) {
  const TemporaryDirectory directory;
  const auto path = directory / "samples.jsonl";
  {
    SampleFile file(path);
    file.append({{"id", "a"}});
    file.append({{"text", "line\nbreak \xFF"}});
    EXPECT_EQ(file.records().size(), 2u);
  }
  EXPECT_EQ(read_file(path), "{\"id\":\"a\"}\n{\"text\":\"line\\nbreak \uFFFD\"}\n");
  SampleFile again(path);
  ASSERT_EQ(again.records().size(), 2u);
  again.append({{"id", "b"}});
  EXPECT_THAT(read_file(path), HasSubstr("\n{\"id\":\"b\"}\n"));
}

TEST(SampleFile, AppendsSeveralLinesOrNone) {
  const TemporaryDirectory directory;
  const auto path = directory / "samples.jsonl";
  SampleFile file(path);
  file.append_all(std::vector<json>{json{{"id", "a"}}, json{{"id", "b"}}});
  file.append_all(std::vector<json>());
  EXPECT_EQ(file.records().size(), 2u);
  EXPECT_EQ(read_file(path), "{\"id\":\"a\"}\n{\"id\":\"b\"}\n");
  EXPECT_EQ(file.records()[1], (json{{"id", "b"}}));
}

TEST(SampleFile, CutsOffWhatAKilledWriterLeft) {
  const TemporaryDirectory directory;
  const auto path = directory / "samples.jsonl";
  const std::string whole = "{\"id\":\"a\"}\n{\"id\":\"b\"}\n";
  for (const std::string tail : {"{", "{\"id\":\"c\"}", "{\"id\":\"c"}) {
    write_file(path, whole + tail);
    SampleFile file(path);
    EXPECT_EQ(file.records().size(), 2u);
    EXPECT_EQ(read_file(path), whole);
  }
}

TEST(SampleFile, IsWrittenByOneProcess) {
  const TemporaryDirectory directory;
  SampleFile file(directory / "samples.jsonl");
  EXPECT_THAT(error_of<Error>([&] { SampleFile other(directory / "samples.jsonl"); }),
              HasSubstr("another process is writing this evaluation"));
}

TEST(SampleFile, NamesTheDamagedLine) {
  const TemporaryDirectory directory;
  const auto path = directory / "samples.jsonl";
  for (const std::string line : {"{\"id\": \"a\"", "[1]", "x"}) {
    write_file(path, "{\"id\":\"a\"}\n" + line + "\n");
    EXPECT_THAT(error_of<Error>([&] { SampleFile file(path); }), HasSubstr("samples.jsonl:2: expected a JSON object"));
  }
}

TEST(SampleFile, IsAsBeforeWhereTheDiskIsFull) {
  const TemporaryDirectory directory;
  const auto path = directory / "samples.jsonl";
  SampleFile file(path);
  file.append({{"id", "a"}});
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{.rlim_cur = 20, .rlim_max = before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const std::string error = error_of<Error>([&] { file.append({{"text", std::string(100, 'x')}}); });
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_THAT(error, HasSubstr("samples.jsonl: it could not be written"));
  EXPECT_EQ(read_file(path), "{\"id\":\"a\"}\n");
  file.append({{"id", "b"}});
  EXPECT_EQ(read_file(path), "{\"id\":\"a\"}\n{\"id\":\"b\"}\n");
}

}  // namespace
}  // namespace cepe
