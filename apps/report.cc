// cepe report: one HTML page about runs (docs/report.md).
#include "report/page.h"

#include <memory>

#include "apps/commands.h"
#include "apps/options.h"
#include "apps/output.h"
#include "apps/output_files.h"
#include "base/error.h"
#include "base/output_file.h"
#include "base/report.h"

namespace cepe {
namespace {

struct Options {
  std::vector<std::string> directories;
  std::string out;
  int64_t examples = 50;
};

// Every file of the directories: the page must not take the place of what it is made of.
std::vector<std::string> files_of(const std::vector<std::string>& directories) {
  std::vector<std::string> files;
  for (const std::string& directory : directories) {
    if (!std::filesystem::is_directory(directory)) continue;  // told when it is read
    for (const auto& entry : std::filesystem::directory_iterator(directory)) {
      if (entry.path().extension() != ".html") files.push_back(entry.path().string());
    }
  }
  return files;
}

void report(const Options& options) {
  require(options.examples >= 0, "--examples: expected 0 or more, found {}", options.examples);
  check_output_files({{"--out", options.out}}, files_of(options.directories));
  check_writable(options.out);
  const ReportPage page =
      make_report({{options.directories.begin(), options.directories.end()}, static_cast<size_t>(options.examples)});
  write_output(options.out, page.html);
  print_beside({options.out},
               fmt::format("{}: {} evaluations, {} training runs, {} examples, {}\n", options.out, page.evaluations,
                           page.trainings, page.examples, format_bytes(page.html.size())));
}

}  // namespace

void add_report_command(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("report", "Make one HTML page of evaluations and training runs");
  add_strings(*command, "directory", options->directories, Strings::several,
              "Directories that cepe eval recall, cepe eval qa (--out) or cepe train (--run) wrote")
      ->type_name("DIRECTORY...")
      ->required();
  command->add_option("--out", options->out, "The page, which opens without a network")->type_name("FILE")->required();
  command->add_option("--examples", options->examples, "Examples of each evaluation at most, evenly over their tags")
      ->capture_default_str();
  command->callback([options] { report(*options); });
}

}  // namespace cepe
