// Where things lie in the shared memory of a CTA of latent_mma_kernel.cu, and which of them a lane reads and writes.
// Plain arithmetic, so that a test on a CPU can go through all lanes (tests/ops/latent_mma_layout_test.cc). Names: a
// *block* of tokens is the 16 of one product, a *slice* the part of the width that a warp has, in *steps* of 16 values.
#pragma once

#include <algorithm>

namespace cepe::latent_mma {

constexpr int kWarps = 8, kThreads = 32 * kWarps;
constexpr int kBlock = 16;              // tokens
constexpr int kScoreRow = kBlock + 4;   // floats of a row of scores: lanes that write a product meet no bank twice
constexpr int kWeightRow = kBlock + 8;  // bfloat16: likewise for lanes that read a product's operand
constexpr int kQuads = kBlock / 2;      // lanes that share a row's softmax, two tokens each

// Sizes of one instance: up to kSteps steps in a warp's slice, kEights groups of 8 rows (tokens x heads), whether
// blocks are scored, weighed and added at the same time (two buffers) or one after another (one), and whether states
// are bytes. Products read states in bfloat16: straight from the ring, or where that has bytes, from a few slots with
// the widened blocks between scores and sums.
template <int kSteps, int kEights, bool kPipelined, bool kEightBits = false>
struct Layout {
  static constexpr int steps = kSteps, eights = kEights, rows = 8 * kEights;
  static constexpr bool pipelined = kPipelined, eight_bits = kEightBits;
  static constexpr int state_bytes = kEightBits ? 1 : 2;
  static constexpr int lag = kPipelined ? 2 : 0;  // blocks between what is scored and what is added
  static constexpr int buffers = kPipelined ? 2 : 1;
  static constexpr int row_bytes = 32 * kSteps + 16;     // an odd number of 16 bytes: tile loads meet no bank twice
  static constexpr int slot_bytes = kBlock * row_bytes;  // of one warp
  static constexpr int ring_row_bytes = kEightBits ? 16 * kSteps : row_bytes;  // bytes are read in a row, all of a slot
  static constexpr int ring_slot_bytes = kBlock * ring_row_bytes;
  static constexpr int wide_slots = kEightBits ? lag + 1 : 0;        // of widened blocks
  static constexpr int score_bytes = 4 * kWarps * rows * kScoreRow;  // of all warps
  static constexpr int weight_bytes = 2 * rows * kWeightRow;
  static constexpr int buffer_bytes = buffers * (score_bytes + weight_bytes + 4 * rows);
  static constexpr int fixed_bytes = buffer_bytes + kWarps * wide_slots * slot_bytes;
  // Of the ring: at least one more is on its way. A slot of bytes is free again when its block is widened.
  static constexpr int least_slots = (kEightBits ? 0 : lag) + 2;
  static constexpr int most_slots = 8;
  static constexpr int bytes(int slots) { return fixed_bytes + slots * kWarps * ring_slot_bytes; }
  // Slots of the ring in so much shared memory; too few: the instance does not fit.
  static constexpr int slots(int shared_bytes) {
    return std::min(most_slots, (shared_bytes - fixed_bytes) / (kWarps * ring_slot_bytes));
  }
  static constexpr bool fits(int shared_bytes) {
    return shared_bytes > fixed_bytes && slots(shared_bytes) >= least_slots;
  }
};

// A warp's slice of the width.
struct Slice {
  int first, steps;
};
constexpr Slice slice_of(int width, int warp) {
  const int all = width / 16, first = all * warp / kWarps;
  return {first, all * (warp + 1) / kWarps - first};
}

// A warp goes through a slot in parts of a token's slice, kParts of them: the part of lane `lane` in round i.
struct SlotPart {
  int token, part;
};
template <int kParts>
constexpr SlotPart slot_part(int i, int lane) {
  return {(i * 32 + lane) / kParts, (i * 32 + lane) % kParts};
}

// ---- In bytes, from the beginning of a warp's slot of 16 tokens

// The tile row whose address a lane gives, for S = E Q^T: tokens are the rows of A.
constexpr int score_tile(int row_bytes, int lane) { return lane % 16 * row_bytes + lane / 16 * 16; }
// For O = E^T P, loaded transposed: values of the width are the rows of A, tokens its columns.
constexpr int sum_tile(int row_bytes, int lane) { return (lane % 8 + lane / 16 * 8) * row_bytes + lane / 8 % 2 * 16; }

// ---- Scores, in floats from the beginning of a warp's part of a buffer: (rows, kScoreRow)

// Value i of four of a lane, of group `eight` of 8 rows.
constexpr int score_at(int eight, int lane, int i) {
  return (eight * 8 + lane % 4 * 2 + i % 2) * kScoreRow + lane / 4 + i / 2 * 8;
}

// ---- Weights, in bfloat16 values from the beginning of a buffer: (rows, kWeightRow)

// The first of the two values that a lane has as b[i] of group `eight`.
constexpr int weight_at(int eight, int lane, int i) {
  return (eight * 8 + lane / 4) * kWeightRow + lane % 4 * 2 + i * 8;
}

// ---- The query, in values from the beginning of a slice of its row eight * 8 + lane / 4

// The first of the two values that a lane has as b[i] of a step.
constexpr int query_at(int step, int lane, int i) { return step * 16 + lane % 4 * 2 + i * 8; }

// ---- A partial, in fours of floats from its beginning: PartsForm::registers of latent_merge.cuh. step: of the width.
constexpr int part_at(int step, int eight, int eights, int lane) {
  return (step / 4 * eights + eight) * 128 + step % 4 * 32 + lane;
}

}  // namespace cepe::latent_mma
