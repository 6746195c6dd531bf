// docs/cli.md is what --help prints (scripts/cli_docs.sh makes it).
#include <gtest/gtest.h>

#include "base/file.h"
#include "e2e/run_cepe.h"

namespace cepe {
namespace {

TEST(CliDocs, AreTheHelpOfTheBinary) {
  const std::string page = read_file(CEPE_TEST_DATA "/../../docs/cli.md");
  const auto documents = [&](const std::string& title, const std::vector<std::string>& words) {
    const CommandResult help = run_cepe(words);
    ASSERT_EQ(help.status, 0) << help.err;
    EXPECT_NE(page.find("\n## " + title + "\n\n```text\n" + help.out + "```\n"), std::string::npos)
        << "docs/cli.md differs from the help of " << title << ": run scripts/cli_docs.sh";
  };
  documents("cepe", {"--help"});
  const std::string help = run_cepe({"--help"}).out;
  int commands = 0;
  for (size_t at = help.find("\n", help.find("Commands:")); at + 3 < help.size(); at = help.find('\n', at + 1)) {
    if (help.compare(at, 3, "\n  ") != 0 || help[at + 3] == ' ') continue;  // a description goes on
    const std::string command = help.substr(at + 3, help.find(' ', at + 3) - at - 3);
    documents("cepe " + command, {command, "--help"});
    ++commands;
  }
  EXPECT_EQ(commands, 10);
}

}  // namespace
}  // namespace cepe
