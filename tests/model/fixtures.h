// The recorded models of tests/golden, opened for tests, and a scratch directory.
#pragma once

#include <unistd.h>

#include <filesystem>

#include "model/checkpoint/checkpoint.h"
#include "speed/shapes.h"

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

// A shape's model with a decoder of three small layers, and an encoder of layers like them.
inline CepeConfig small_config(const char* shape, int64_t heads, int64_t kv_heads, int64_t head_dim) {
  CepeConfig config = shape_config(shape);
  StackConfig& decoder = config.decoder;
  decoder.num_layers = 3, decoder.vocab_size = 1000, decoder.intermediate_size = 512;
  decoder.hidden_size = heads * head_dim;
  decoder.num_heads = heads, decoder.num_kv_heads = kv_heads, decoder.head_dim = head_dim;
  const StackConfig encoder = *config.encoder;
  config.encoder = decoder;
  config.encoder->num_layers = encoder.num_layers, config.encoder->max_positions = encoder.max_positions;
  config.encoder->tie_embeddings = false;
  return config;
}

// Logits (B, T, V) of ids (B, T), read one token after another through a cache.
inline at::Tensor token_by_token(const Cepe& model, const at::Tensor& ids_BT) {
  KeyValueCache cache = make_cache(model.decoder.stack, ids_BT.size(0), ids_BT.size(1));
  std::vector<at::Tensor> steps;
  for (int64_t t = 0; t < ids_BT.size(1); ++t) {
    DecodeInput input{ids_BT.narrow(1, t, 1)};
    input.cache = &cache;
    steps.push_back(logits(model, decode(model, input)));
  }
  return at::cat(steps, 1);
}

}  // namespace cepe
