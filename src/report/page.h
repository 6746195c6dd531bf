// One HTML page about any number of runs (docs/report.md). It opens without a network: style, script and pictures are
// within it, and its content security policy keeps everything else out.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

namespace cepe {

struct ReportOptions {
  std::vector<std::filesystem::path> directories;  // of cepe eval recall, cepe eval qa and cepe train
  size_t most_examples = 50;                       // of each evaluation
};

struct ReportPage {
  std::string html;
  size_t evaluations = 0, trainings = 0, examples = 0;
};

// Reads the directories and makes the page; the same files give the same page. Error, naming the directory, where one
// is of neither kind or is given twice, and naming file and line where a file is not what the commands write.
ReportPage make_report(const ReportOptions& options);

// What runs are called on the page: their directories without what all of them have in common before the last part.
std::vector<std::string> run_names(const std::vector<std::filesystem::path>& directories);

}  // namespace cepe
