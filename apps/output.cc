#include "apps/output.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <utility>

#include "base/error.h"
#include "base/output_file.h"
#include "base/report.h"

namespace cepe {

void print(std::string_view text) {
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
  require(written, "standard output: the text could not be written: {}", std::strerror(errno));
}

void tell(std::string_view text) { std::fprintf(stderr, "cepe: %s\n", printable(text).c_str()); }

void note(std::string_view text) { std::fprintf(stderr, "%s\n", printable(text).c_str()); }

bool close_output() {
  const bool written = std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
  return ::close(STDOUT_FILENO) == 0 && written;  // closing tells of a remote disk that is full
}

void print_beside(const std::vector<std::string>& files, std::string_view text_of_files) {
  const std::string text = printable_lines(text_of_files);
  const bool taken = std::any_of(files.begin(), files.end(),
                                 [](const auto& path) { return !path.empty() && is_standard_output(path); });
  if (!taken) return print(text);
  std::fwrite(text.data(), 1, text.size(), stderr);
}

std::function<void(int64_t, int64_t)> progress_bar(std::string what) {
  struct State {
    std::unique_ptr<Progress> bar;
    int64_t done = 0;
  };
  auto state = std::make_shared<State>();
  return [state, what = std::move(what)](int64_t done, int64_t total) {
    if (!state->bar) state->bar = std::make_unique<Progress>(what, total);
    state->bar->advance(done - state->done);
    state->done = done;
    if (done == total) state->bar.reset();
  };
}

void write_results(const std::vector<ResultFile>& files) {
  std::string failures;
  for (const ResultFile& file : files) {
    if (file.path.empty()) continue;
    try {
      file.write(file.path);
    } catch (const Error& error) {
      failures += (failures.empty() ? "" : "; ") + std::string(error.what());
    }
  }
  require(failures.empty(), "{}", failures);
}

}  // namespace cepe
