// Keys against Python's hashlib, and what a fingerprint takes notice of.
#include "context/chunk_key.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "model/fixtures.h"

namespace cepe {
namespace {

ModelFingerprint fingerprint_from(const std::string& hex) {
  ModelFingerprint out;
  for (size_t i = 0; i < out.bytes.size(); ++i)
    out.bytes[i] = static_cast<uint8_t>(std::stoi(hex.substr(2 * i, 2), nullptr, 16));
  return out;
}

TEST(ChunkKeys, EqualThoseOfHashlib) {
  std::ifstream file(std::filesystem::path(CEPE_TEST_DATA) / "context" / "chunk_keys.json");
  const nlohmann::json keys = nlohmann::json::parse(file)["keys"];
  std::set<ChunkKey> different;
  for (const nlohmann::json& entry : keys) {
    const ChunkKey key = chunk_key(fingerprint_from(entry[0]), entry[1].get<std::vector<TokenId>>());
    EXPECT_EQ(hex_digits(key.bytes), entry[2].get<std::string>());
    different.insert(key);
  }
  EXPECT_EQ(keys.size(), 15u);
  EXPECT_EQ(different.size(), keys.size());
}

// One bit of the first number.
void flip(const at::Tensor& tensor) { static_cast<uint8_t*>(tensor.mutable_data_ptr())[0] ^= 1; }

TEST(EncoderFingerprint, NoticesEveryWeightOfTheEncoderAndNoOther) {
  Cepe model = open_fixture("cepe-mha", at::kDouble).model;
  const ModelFingerprint before = encoder_fingerprint(model);
  std::set<ModelFingerprint> different = {before};
  size_t noticed = 0;
  for (const Parameter& parameter : parameters(model)) {
    const bool counts = parameter.part == Parameter::Part::encoder;
    noticed += counts ? 1 : 0;
    flip(*parameter.value);
    const ModelFingerprint found = encoder_fingerprint(model);
    EXPECT_EQ(found != before, counts) << parameter.name;
    different.insert(found);
    flip(*parameter.value);
  }
  EXPECT_GT(noticed, 10u);
  EXPECT_EQ(different.size(), noticed + 1);
  EXPECT_EQ(encoder_fingerprint(model), before);
}

TEST(EncoderFingerprint, NoticesConfigurationAndTypes) {
  Cepe model = open_fixture("cepe-mha").model;
  const ModelFingerprint before = encoder_fingerprint(model);
  EXPECT_EQ(encoder_fingerprint(open_fixture("cepe-mha").model), before);
  std::set<ModelFingerprint> different = {before, encoder_fingerprint(model, /*int8=*/true),
                                          encoder_fingerprint(open_fixture("cepe-mha", at::kDouble).model),
                                          encoder_fingerprint(open_fixture("cepe-gqa-last2").model)};
  model.config.encoder->rms_norm_eps *= 2;
  different.insert(encoder_fingerprint(model));
  model.config.encoder->rope.theta *= 2;
  different.insert(encoder_fingerprint(model));
  EXPECT_EQ(different.size(), 6u);
  EXPECT_THROW(encoder_fingerprint(open_fixture("generate/plain").model), Error);
}

// An encoder on the decoder's embedding reads it, and nothing else of the decoder.
TEST(EncoderFingerprint, NoticesTheEmbeddingThatItReads) {
  Cepe model = random_model(small_config("smollm2-135m+2x2", 4, 2, 16));
  const ModelFingerprint before = encoder_fingerprint(model);
  flip(model.decoder.stack.layers[0].input_norm);
  EXPECT_EQ(encoder_fingerprint(model), before);
  flip(model.decoder.stack.embedding);
  EXPECT_NE(encoder_fingerprint(model), before);
}

TEST(EncoderFingerprint, NoticesQuantisedMatrices) {
  Cepe model = random_model(small_config("smollm2-135m+2x2", 4, 2, 16));
  const ModelFingerprint before = encoder_fingerprint(model);
  Linear& up = model.encoder->stack.layers[1].feed_forward.up;
  const auto quantised = std::make_shared<QuantisedWeight>(quantise_weight(up.weight, WeightType::int8));
  up.quantised = quantised;
  up.weight.reset();
  const ModelFingerprint after = encoder_fingerprint(model);
  EXPECT_NE(after, before);
  flip(quantised->scales);
  EXPECT_NE(encoder_fingerprint(model), after);
  flip(quantised->scales);
  flip(quantised->values);
  EXPECT_NE(encoder_fingerprint(model), after);
}

}  // namespace
}  // namespace cepe
