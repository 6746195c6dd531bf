// The recorded models of tests/golden, opened for tests, and a scratch directory.
#pragma once

#include <unistd.h>

#include <filesystem>

#include "model/checkpoint.h"

namespace cepe {

inline OpenedModel open_fixture(const std::string& name, at::ScalarType dtype = at::kFloat) {
  OpenOptions options;
  options.dtype = dtype;
  return open_model(std::filesystem::path(CEPE_TEST_DATA) / name, options);
}

// A directory that is removed with everything in it at the end of the test.
class ScratchDirectory {
 public:
  ScratchDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "cepe-test-XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~ScratchDirectory() { std::filesystem::remove_all(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// |found - expected| / |expected| in float64.
inline double norm_error(const at::Tensor& found, const at::Tensor& expected) {
  const at::Tensor reference = expected.detach().to(at::kDouble);
  return ((found.detach().to(at::kDouble) - reference).norm() / reference.norm()).item<double>();
}

}  // namespace cepe
