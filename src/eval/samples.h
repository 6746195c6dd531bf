// samples.jsonl: a record for each example of an evaluation, in their order. A process that is killed loses at most the
// record that it was writing. run.json beside it: what the run was told.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

namespace cepe {

// Writes run.json of an evaluation that begins in a directory, which is made where it does not exist; where one was
// begun there, compares. Error naming the first setting that differs.
void check_run_configuration(const std::filesystem::path& directory, const nlohmann::json& configuration);

class SampleFile {
 public:
  // Opens the file, or creates it, and reads the records in it. An unfinished last line, of a writer that was killed,
  // is cut off. The file is locked as long as the object lives. Error where another process writes it, where it cannot
  // be read or written, and where a line is no JSON object.
  explicit SampleFile(std::filesystem::path path);
  ~SampleFile();
  SampleFile(const SampleFile&) = delete;
  SampleFile& operator=(const SampleFile&) = delete;

  const std::vector<nlohmann::json>& records() const { return records_; }
  // Adds a line, which is on the disk when this returns. Error where that fails; the file is then as it was before.
  void append(const nlohmann::json& record) { append_all(std::vector<nlohmann::json>(1, record)); }
  // The same of several lines, with one wait for the disk. A process that is killed meanwhile leaves the first of them.
  void append_all(std::vector<nlohmann::json> records);

 private:
  void read();
  [[noreturn]] void fail_with(const char* doing) const;

  std::filesystem::path path_;
  int descriptor_ = -1;
  int64_t size_ = 0;  // bytes of whole lines
  std::vector<nlohmann::json> records_;
};

}  // namespace cepe
