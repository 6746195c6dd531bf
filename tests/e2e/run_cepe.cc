#include "e2e/run_cepe.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "base/error.h"
#include "base/file.h"

extern char** environ;

namespace cepe {
namespace {

namespace fs = std::filesystem;

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> out;
  for (std::string& string : strings) out.push_back(string.data());
  out.push_back(nullptr);
  return out;
}

std::vector<std::string> environment(const CommandSettings& settings) {
  std::vector<std::string> out;
  for (char** entry = environ; *entry; ++entry) {
    const std::string text = *entry;
    if (!settings.models.empty() && (text.starts_with("HOME=") || text.starts_with("CEPE_MODELS="))) continue;
    out.push_back(text);
  }
  if (!settings.models.empty()) {
    out.push_back("HOME=" + settings.models);
    out.push_back("CEPE_MODELS=" + settings.models);
  }
  return out;
}

}  // namespace

CommandResult run_cepe(const std::vector<std::string>& arguments, const CommandSettings& settings) {
  const TemporaryDirectory directory;
  const std::string out = settings.stdout_path.empty() ? (directory.path() / "out").string() : settings.stdout_path;
  const std::string err = (directory.path() / "err").string();
  std::vector<std::string> words{CEPE_BINARY};
  if (!settings.shell.empty()) words = {"/bin/sh", "-c", settings.shell + "; exec \"$0\" \"$@\"", CEPE_BINARY};
  const std::string program = words[0];
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<std::string> variables = environment(settings);

  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, out.c_str(), O_WRONLY | O_CREAT, 0600);
  posix_spawn_file_actions_addopen(&files, STDERR_FILENO, err.c_str(), O_WRONLY | O_CREAT, 0600);
  pid_t process = 0;
  const int failed =
      posix_spawn(&process, program.c_str(), &files, nullptr, pointers(words).data(), pointers(variables).data());
  posix_spawn_file_actions_destroy(&files);
  require(failed == 0, "{} cannot be run", CEPE_BINARY);

  int state = 0;
  require(waitpid(process, &state, 0) == process, "waiting for {} failed", CEPE_BINARY);
  CommandResult result;
  result.status = WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
  if (settings.stdout_path.empty()) result.out = read_file(out);
  result.err = read_file(err);
  return result;
}

void expect_refused(const std::vector<std::string>& arguments, const std::string& phrase,
                    const CommandSettings& settings) {
  std::string line;
  for (const std::string& argument : arguments) line += " " + argument;
  SCOPED_TRACE("cepe" + line);
  const CommandResult result = run_cepe(arguments, settings);
  EXPECT_GT(result.status, 0);
  EXPECT_LT(result.status, 128) << "ended by a signal";
  EXPECT_EQ(result.out, "");
  EXPECT_TRUE(result.err.starts_with("cepe: ")) << result.err;
  EXPECT_FALSE(result.err.starts_with("cepe: unexpected failure")) << result.err;
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  EXPECT_NE(result.err.find(phrase), std::string::npos) << result.err;
}

TemporaryDirectory::TemporaryDirectory() {
  std::string name = (fs::temp_directory_path() / "cepe-e2e-XXXXXX").string();
  require(mkdtemp(name.data()) != nullptr, "{}: no temporary directory can be made", name);
  path_ = name;
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

std::string TemporaryDirectory::write(const std::string& name, const std::string& content) const {
  write_file(path_ / name, content);
  return (path_ / name).string();
}

fs::path TemporaryDirectory::copy_of(const fs::path& directory) const {
  const fs::path copy = path_ / directory.filename();
  fs::copy(directory, copy, fs::copy_options::recursive);
  return copy;
}

std::string golden(const std::string& name) { return CEPE_TEST_DATA "/generate/" + name; }

}  // namespace cepe
