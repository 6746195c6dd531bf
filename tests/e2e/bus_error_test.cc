// A file that is cut short while it is mapped ends the program with a sentence.
#include "apps/bus_error.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "e2e/run_cepe.h"

namespace cepe {
namespace {

TEST(BusErrorDeathTest, NamesTheFileThatLostItsBytes) {
  const TemporaryDirectory directory;
  const std::string path = directory.write("model.safetensors", std::string(1 << 20, 'x'));
  const auto read_after_cut = [&] {
    explain_bus_errors();
    const MappedFile file(path);
    std::filesystem::resize_file(path, 100);
    const volatile std::byte* bytes = file.bytes().data();
    static_cast<void>(bytes[file.bytes().size() - 1]);
  };
  EXPECT_EXIT(read_after_cut(), testing::ExitedWithCode(1), "cepe: /.*/model.safetensors: its bytes went away");
}

}  // namespace
}  // namespace cepe
