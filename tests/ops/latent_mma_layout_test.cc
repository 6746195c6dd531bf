// The lanes of the latent kernel of every GPU, emulated: loads of tiles ("ldmatrix") and products of a warp ("mma") as
// PTX ISA 8.5, sections 9.7.14.5.15 and 9.7.14.5.8, define them, on the places that latent_mma_layout.h gives. Numbers
// are small integers, so that sums are exact.
#include "ops/latent/latent_mma_layout.h"

#include <gtest/gtest.h>

#include <array>
#include <set>
#include <vector>

namespace cepe::latent_mma {
namespace {

using Pair = std::array<float, 2>;  // one register of 16-bit values
template <int kCount>
using Lanes = std::array<std::array<Pair, kCount>, 32>;  // of a warp

// Four tiles from a slot of 16-bit values; addresses in bytes.
template <class Address>
Lanes<4> load_tiles(const std::vector<float>& slot, Address address, bool transposed) {
  Lanes<4> x;
  for (int lane = 0; lane < 32; ++lane) {
    for (int tile = 0; tile < 4; ++tile) {
      for (int i = 0; i < 2; ++i) {
        const int row = transposed ? lane % 4 * 2 + i : lane / 4, column = transposed ? lane / 4 : lane % 4 * 2 + i;
        const int from = address(tile * 8 + row);
        EXPECT_EQ(from % 16, 0);
        x[lane][tile][i] = slot.at(from / 2 + column);
      }
    }
  }
  return x;
}

// D (16 x 8), spread over lanes, += A (16 x 16) B (16 x 8).
void multiply_add(std::array<std::array<float, 4>, 32>& d, const Lanes<4>& a, const Lanes<2>& b) {
  float wide_a[16][16], wide_b[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 2; ++i) {
      for (int r = 0; r < 4; ++r) wide_a[g + r % 2 * 8][2 * t + i + r / 2 * 8] = a[lane][r][i];
      for (int r = 0; r < 2; ++r) wide_b[2 * t + i + r * 8][g] = b[lane][r][i];
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
      for (int k = 0; k < 16; ++k) d[lane][i] += wide_a[row][k] * wide_b[k][column];
    }
  }
}

float number(int a, int b) { return static_cast<float>((a * 31 + b * 17 + a * b) % 9 - 4); }

template <int kSteps, int kEights>
struct Emulation {
  using L = Layout<kSteps, kEights, true>;
  int width;
  std::vector<std::vector<float>> slots;  // of each warp: 16 tokens x its slice, zeros in the steps it does not have
  std::vector<float> scores, weights, part;

  float state(int token, int column) const { return number(token + 3, column); }
  float query(int row, int column) const { return number(column, row + 5); }
  float weight(int row, int token) const { return number(row + 1, token + 2); }

  explicit Emulation(int of_width)
      : width(of_width),
        slots(kWarps, std::vector<float>(L::slot_bytes / 2)),
        scores(L::score_bytes / 4),
        weights(L::weight_bytes / 2),
        part(static_cast<size_t>(L::rows * width)) {
    for (int warp = 0; warp < kWarps; ++warp) {
      const Slice slice = slice_of(width, warp);
      for (int token = 0; token < kBlock; ++token) {
        for (int i = 0; i < slice.steps * 16; ++i)
          slots[warp].at(token * L::row_bytes / 2 + i) = state(token, slice.first * 16 + i);
      }
    }
    for (int row = 0; row < L::rows; ++row) {
      for (int token = 0; token < kBlock; ++token) weights.at(row * kWeightRow + token) = weight(row, token);
    }
  }

  void score(int warp) {
    const Slice slice = slice_of(width, warp);
    for (int n = 0; n < kEights; ++n) {
      std::array<std::array<float, 4>, 32> sums{};
      for (int j = 0; j < kSteps; ++j) {
        const Lanes<4> states = load_tiles(
            slots[warp], [&](int lane) { return score_tile(L::row_bytes, lane) + j * 32; }, /*transposed=*/false);
        Lanes<2> b{};
        for (int lane = 0; lane < 32 && j < slice.steps; ++lane) {
          for (int i = 0; i < 4; ++i)
            b[lane][i / 2][i % 2] = query(n * 8 + lane / 4, slice.first * 16 + query_at(j, lane, i / 2) + i % 2);
        }
        multiply_add(sums, states, b);
      }
      for (int lane = 0; lane < 32; ++lane) {
        for (int i = 0; i < 4; ++i) scores.at(warp * L::rows * kScoreRow + score_at(n, lane, i)) = sums[lane][i];
      }
    }
  }

  void add(int warp) {
    const Slice slice = slice_of(width, warp);
    for (int n = 0; n < kEights; ++n) {
      Lanes<2> b;
      for (int lane = 0; lane < 32; ++lane) {
        for (int i = 0; i < 4; ++i) b[lane][i / 2][i % 2] = weights.at(weight_at(n, lane, i / 2) + i % 2);
      }
      for (int j = 0; j < slice.steps; ++j) {
        std::array<std::array<float, 4>, 32> sums{};
        multiply_add(sums,
                     load_tiles(
                         slots[warp], [&](int lane) { return sum_tile(L::row_bytes, lane) + j * 32; },
                         /*transposed=*/true),
                     b);
        for (int lane = 0; lane < 32; ++lane) {
          for (int i = 0; i < 4; ++i) part.at(part_at(slice.first + j, n, kEights, lane) * 4 + i) = sums[lane][i];
        }
      }
    }
  }

  void expect_scores() const {
    for (int row = 0; row < L::rows; ++row) {
      for (int token = 0; token < kBlock; ++token) {
        float expected = 0, found = 0;
        for (int i = 0; i < width; ++i) expected += query(row, i) * state(token, i);
        for (int warp = 0; warp < kWarps; ++warp) found += scores[(warp * L::rows + row) * kScoreRow + token];
        ASSERT_EQ(found, expected) << "row " << row << ", token " << token << ", width " << width;
      }
    }
  }
  // As latent_merge.cuh describes PartsForm::registers: (width / 64, rows / 8, 128 threads, 4).
  void expect_part() const {
    for (int i = 0; i < L::rows * width; ++i) {
      const int thread = i / 4 % 128, q = thread % 32 / 4, r = thread % 4, w = thread / 32;
      const int eight = i / 512 % kEights, chunk = i / 512 / kEights;
      const int row = eight * 8 + 2 * r + i % 2, column = chunk * 64 + 16 * w + q + i / 2 % 2 * 8;
      float expected = 0;
      for (int token = 0; token < kBlock; ++token) expected += weight(row, token) * state(token, column);
      ASSERT_EQ(part[i], expected) << "row " << row << ", column " << column << ", width " << width;
    }
  }
};

template <int kSteps, int kEights>
void expect_products(int width) {
  Emulation<kSteps, kEights> emulation(width);
  for (int warp = 0; warp < kWarps; ++warp) emulation.score(warp), emulation.add(warp);
  emulation.expect_scores();
  emulation.expect_part();
}

TEST(LatentMmaLayout, ProductsOfAllLanesAreScoresAndSums) {
  for (int width = 64; width <= 1024; width += 64) {
    if (width <= 512) expect_products<4, 2>(width), expect_products<4, 4>(width);
    if (width <= 768) expect_products<6, 2>(width), expect_products<6, 4>(width);
    expect_products<8, 2>(width), expect_products<8, 4>(width);
  }
}

// Where a warp's copies to a slot and its widening of bytes go, as copy_block() and widen_block() walk it.
template <int kSteps>
void expect_slot_of_bytes(int width) {
  using L = Layout<kSteps, 4, true, true>;
  constexpr int kCopied = kSteps, kWidened = 2 * kSteps;  // parts of a token's slice: of 16 bytes, and of 8
  for (int warp = 0; warp < kWarps; ++warp) {
    const Slice slice = slice_of(width, warp);
    std::vector<int> ring(L::ring_slot_bytes, -1), wide(L::slot_bytes / 2, -1);  // the byte of E that lies there
    const auto put = [](int& place, int byte) {
      EXPECT_EQ(place, -1) << "written twice";
      place = byte;
    };
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < kBlock * kCopied / 32; ++i) {
        const auto [token, part] = slot_part<kCopied>(i, lane);
        for (int b = 0; b < 16 && part < slice.steps; ++b)
          put(ring.at(token * L::ring_row_bytes + part * 16 + b), token * width + slice.first * 16 + part * 16 + b);
      }
    }
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < L::steps; ++i) {
        const auto [token, part] = slot_part<kWidened>(i, lane);
        const int from = token * L::ring_row_bytes + part * 8, to = token * L::row_bytes + part * 16;
        EXPECT_LE(from + 8, L::ring_slot_bytes);
        EXPECT_EQ(from % 8 + to % 16, 0);
        for (int b = 0; b < 8 && part < 2 * slice.steps; ++b) put(wide.at(to / 2 + b), ring.at(from + b));
      }
    }
    for (int token = 0; token < kBlock; ++token) {
      for (int i = 0; i < L::row_bytes / 2; ++i) {
        const int expected = i < slice.steps * 16 ? token * width + slice.first * 16 + i : -1;
        ASSERT_EQ(wide[token * L::row_bytes / 2 + i], expected) << "width " << width << ", warp " << warp;
      }
    }
  }
}

TEST(LatentMmaLayout, EveryByteIsCopiedAndWidenedOnce) {
  for (int width = 64; width <= 1024; width += 64) {
    if (width <= 512) expect_slot_of_bytes<4>(width);
    if (width <= 768) expect_slot_of_bytes<6>(width);
    expect_slot_of_bytes<8>(width);
  }
}

TEST(LatentMmaLayout, SlicesAreTheWholeWidthAndFit) {
  for (int width = 64; width <= 1024; width += 64) {
    int next = 0;
    for (int warp = 0; warp < kWarps; ++warp) {
      const Slice slice = slice_of(width, warp);
      EXPECT_EQ(slice.first, next);
      EXPECT_LE(slice.steps, width <= 512 ? 4 : width <= 768 ? 6 : 8);
      next += slice.steps;
    }
    EXPECT_EQ(next, width / 16);
  }
}

// Shared memory has 32 banks of 4 bytes; a load of tiles takes the 16 bytes of 8 rows at a time.
TEST(LatentMmaLayout, LanesMeetNoBankTwice) {
  const auto banks = [](auto word) {
    std::set<int> met;
    for (int lane = 0; lane < 32; ++lane) met.insert(word(lane) % 32);
    return met.size();
  };
  for (int i = 0; i < 4; ++i) EXPECT_EQ(banks([&](int lane) { return score_at(1, lane, i); }), 32u);
  for (int i = 0; i < 2; ++i) EXPECT_EQ(banks([&](int lane) { return weight_at(1, lane, i) / 2; }), 32u);
  for (const int row_bytes :
       {Layout<4, 2, true>::row_bytes, Layout<6, 2, true>::row_bytes, Layout<8, 2, true>::row_bytes}) {
    for (int tile = 0; tile < 4; ++tile) {
      std::set<int> scored, added;
      for (int lane = tile * 8; lane < tile * 8 + 8; ++lane) {
        scored.insert(score_tile(row_bytes, lane) / 16 % 8), added.insert(sum_tile(row_bytes, lane) / 16 % 8);
      }
      EXPECT_EQ(scored.size(), 8u);
      EXPECT_EQ(added.size(), 8u);
    }
  }
}

// What a block may have on cards of compute capability 8.6, 8.9 and 12.0; 8.0; 9.0 and 10.0.
TEST(LatentMmaLayout, EveryCardHasRoom) {
  constexpr int kSmall = 99 * 1024, kAmpere = 163 * 1024, kHopper = 227 * 1024;
  EXPECT_TRUE((Layout<8, 4, false>::fits(kSmall)));
  EXPECT_TRUE((Layout<8, 4, false>::fits(kAmpere)));
  EXPECT_EQ((Layout<8, 4, false>::slots(kAmpere)), 4);
  EXPECT_FALSE((Layout<8, 4, true>::fits(kAmpere)));
  EXPECT_TRUE((Layout<8, 4, true>::fits(kHopper)));
  EXPECT_EQ((Layout<8, 4, true>::slots(kHopper)), 5);
  EXPECT_TRUE((Layout<8, 2, true>::fits(kAmpere)));
  EXPECT_TRUE((Layout<6, 4, false>::fits(kSmall)));
  EXPECT_FALSE((Layout<8, 4, true>::fits(0)));
  EXPECT_LE((Layout<8, 4, true>::bytes(5)), kHopper);
  // Bytes fit wherever bfloat16 does.
  EXPECT_TRUE((Layout<8, 4, false, true>::fits(kSmall)));
  EXPECT_EQ((Layout<8, 4, false, true>::slots(kSmall)), 2);
  EXPECT_LE((Layout<8, 4, false, true>::bytes(2)), (Layout<8, 4, false>::bytes(2)));
  EXPECT_EQ((Layout<8, 4, false, true>::slots(kAmpere)), 6);
  EXPECT_FALSE((Layout<8, 4, true, true>::fits(kAmpere)));
  EXPECT_TRUE((Layout<8, 2, true, true>::fits(kAmpere)));
  EXPECT_EQ((Layout<8, 4, true, true>::slots(kHopper)), 5);
  EXPECT_LE((Layout<8, 4, true, true>::bytes(5)), kHopper);
  EXPECT_FALSE((Layout<8, 4, true, true>::fits(0)));
}

}  // namespace
}  // namespace cepe::latent_mma
