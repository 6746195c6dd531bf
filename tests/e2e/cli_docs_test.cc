// docs/cli.md is what --help prints (scripts/cli_docs.sh makes it).
#include <gtest/gtest.h>

#include <functional>

#include "base/file.h"
#include "e2e/run_cepe.h"

namespace cepe {
namespace {

// The commands that a help lists.
std::vector<std::string> commands_in(const std::string& help) {
  std::vector<std::string> commands;
  if (help.find("Commands:") == std::string::npos) return commands;
  for (size_t at = help.find("\n", help.find("Commands:")); at + 3 < help.size(); at = help.find('\n', at + 1)) {
    if (help.compare(at, 3, "\n  ") != 0 || help[at + 3] == ' ') continue;  // a description goes on
    commands.push_back(help.substr(at + 3, help.find(' ', at + 3) - at - 3));
  }
  return commands;
}

// Versions of CLI11 differ in these.
std::string without_blank_lines(const std::string& text) {
  std::string kept;
  for (const char c : text) {
    if (c != '\n' || !kept.ends_with('\n')) kept += c;
  }
  return kept;
}

TEST(CliDocs, AreTheHelpOfTheBinary) {
  const std::string page = without_blank_lines(read_file(CEPE_TEST_DATA "/../../docs/cli.md"));
  int documented = 0;
  const std::function<void(std::vector<std::string>)> documents = [&](const std::vector<std::string>& command) {
    std::vector<std::string> words = command;
    words.push_back("--help");
    const CommandResult help = run_cepe(words);
    ASSERT_EQ(help.status, 0) << help.err;
    std::string title = "cepe";
    for (const std::string& word : command) title += " " + word;
    const std::string section = "\n## " + title + "\n```text\n" + without_blank_lines(help.out) + "```\n";
    EXPECT_NE(page.find(section), std::string::npos)
        << "docs/cli.md differs from the help of " << title << ": run scripts/cli_docs.sh";
    ++documented;
    for (const std::string& own : commands_in(help.out)) {
      words = command;
      words.push_back(own);
      documents(words);
    }
  };
  documents({});
  EXPECT_EQ(documented, 27) << "cepe, thirteen commands, six of eval, two of data and five of index";
}

}  // namespace
}  // namespace cepe
