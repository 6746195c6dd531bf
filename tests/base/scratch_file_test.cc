#include "base/scratch_file.h"

#include <gtest/gtest.h>

#include <string>

#include "base/error_of.h"
#include "base/temporary_directory.h"

namespace cepe {
namespace {

TEST(ScratchFile, GivesWhatWasWrittenAndLeavesNothing) {
  const TemporaryDirectory directory;
  std::string expected;
  {
    ScratchFile file(directory.path());
    EXPECT_EQ(directory.entries(), 0u);  // while it is written, too
    for (int i = 0; i < 3000; ++i) {
      const std::string part(static_cast<size_t>(i % 97), static_cast<char>('a' + i % 26));
      file.write(part);
      expected += part;
    }
    EXPECT_EQ(file.map(), expected);
    EXPECT_EQ(file.map().data(), file.map().data());
    EXPECT_EQ(error_of([&] { file.write("more"); }),
              directory.path().string() + ": the temporary file there is mapped: nothing can be added");
  }
  EXPECT_EQ(directory.entries(), 0u);
  EXPECT_TRUE(ScratchFile(directory.path()).map().empty());
}

TEST(ScratchFile, NeedsADirectory) {
  const TemporaryDirectory directory;
  const std::string nowhere = (directory / "nowhere").string();
  EXPECT_EQ(error_of([&] { const ScratchFile file(nowhere); }),
            nowhere + ": cannot make a temporary file there: No such file or directory");
}

}  // namespace
}  // namespace cepe
