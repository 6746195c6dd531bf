// The directory of a training run: one process writes in it.
#pragma once

#include <filesystem>

namespace cepe {

class RunDirectory {
 public:
  // Nothing is made yet. A run that was begun is locked at once, so that a second process does not read a model to be
  // refused. The lock goes with the object, or however the process ends.
  // Error: a file of this name; another process that trains here.
  explicit RunDirectory(std::filesystem::path path);
  ~RunDirectory();
  RunDirectory(const RunDirectory&) = delete;
  RunDirectory& operator=(const RunDirectory&) = delete;

  // Makes it where it is missing, and locks it.
  void make();
  const std::filesystem::path& path() const { return path_; }

 private:
  void lock();
  const std::filesystem::path path_;
  int descriptor_ = -1;  // of the lock; -1: not locked
};

}  // namespace cepe
