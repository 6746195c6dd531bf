// Runs the binary as a user does: arguments in, exit status and both outputs back.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace cepe {

struct CommandResult {
  int status = 0;        // the exit status; 128 + n when signal n ended the program
  std::string out, err;  // standard output and standard error
};

// HOME and CEPE_MODELS of the program: where it looks for the base of trained parts. Empty: left as they are.
struct CommandSettings {
  std::string models;
  std::string stdout_path;  // standard output goes to this file instead of into the result
  std::string shell;        // what a shell does before it becomes cepe: a limit, another directory, a closed stream
};
CommandResult run_cepe(const std::vector<std::string>& arguments, const CommandSettings& settings = {});

// Expects that cepe refuses: an exit status of its own (no signal), nothing on standard output, and one line on
// standard error, "cepe: ...", that holds the phrase.
void expect_refused(const std::vector<std::string>& arguments, const std::string& phrase,
                    const CommandSettings& settings = {});

// A directory of its own for each test, removed at its end.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::string write(const std::string& name, const std::string& content) const;  // -> the file's path
  // A copy of a golden model directory, to be damaged.
  std::filesystem::path copy_of(const std::filesystem::path& directory) const;

 private:
  std::filesystem::path path_;
};

// tests/golden/generate: plain, published and trained are the same tiny model (record.py there).
std::string golden(const std::string& name);

}  // namespace cepe
