#include "train/throughput.h"

#include <gtest/gtest.h>

namespace cepe {
namespace {

CepeConfig smollm2() {
  CepeConfig config;
  StackConfig& d = config.decoder;
  d.hidden_size = 576;
  d.intermediate_size = 1536;
  d.num_layers = 30;
  d.num_heads = 9;
  d.num_kv_heads = 3;
  d.head_dim = 64;
  d.vocab_size = 49152;
  config.encoder = d;
  config.encoder->num_layers = 8;
  config.num_cross_attn_layers = 15;
  return config;
}

// Matrix by matrix: rows x in x out, with the passes that each takes part in.
double product(double rows, double in, double out, double passes) { return 2 * rows * in * out * passes; }

TEST(Throughput, AgreesWithASumOverAllMatrices) {
  const double T = 1024, S = 4096, L = 256, D = 576, F = 1536, kv = 192, V = 49152;
  double expected = 0;
  const auto block = [&](double rows, double passes) {
    expected += product(rows, D, D, passes) * 2 + product(rows, D, kv, passes) * 2 + product(rows, D, F, passes) * 3;
  };
  for (int layer = 0; layer < 8; ++layer) {
    block(S, 3);
    for (int chunk = 0; chunk < 16; ++chunk) expected += 9 * (product(L, 64, L, 3) + product(L, L, 64, 3));
  }
  for (int layer = 0; layer < 30; ++layer) {
    const bool crossed = layer >= 15;
    block(T, crossed ? 2 : 1);
    expected += 9 * (product(T, 64, T, 1) + product(T, T, 64, 1)) / 2 * (crossed ? 3 : 1);
    if (!crossed) continue;
    expected += product(T, D, D, 3) * 2 + product(S, D, kv, 3) * 2 + 9 * (product(T, 64, S, 3) + product(T, S, 64, 3));
  }
  expected += product(T, D, V, 2);
  EXPECT_NEAR(training_flops(smollm2(), {4096, 16, 1024, 1024}) / expected, 1, 1e-12);
}

TEST(Throughput, AgreesWithTheTrial) {
  // The trial: 5 encoder layers, cross-attention in all 30, 4096 + 2048 tokens cost about 4.5 TFLOP a sample.
  CepeConfig config = smollm2();
  config.encoder->num_layers = 5;
  config.num_cross_attn_layers = 30;
  EXPECT_NEAR(training_flops(config, {4096, 16, 2048, 2048}) / 4.5e12, 1, 0.25);
}

TEST(Throughput, OfAReaderAgreesWithASumOverAllMatrices) {
  const double T = 5120, D = 576, F = 1536, kv = 192, V = 49152;
  double expected = product(1024, D, V, 1);
  for (int layer = 0; layer < 30; ++layer) {
    expected += product(T, D, D, 1) * 2 + product(T, D, kv, 1) * 2 + product(T, D, F, 1) * 3;
    expected += 9 * (product(T, 64, T, 1) + product(T, T, 64, 1)) / 2;
  }
  EXPECT_NEAR(reading_flops(smollm2().decoder, 5120, 1024) / expected, 1, 1e-12);
}

}  // namespace
}  // namespace cepe
