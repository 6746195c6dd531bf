// TMA descriptors (tensor maps) of arrays in global memory, made on the host. Tiles in shared memory are in the
// 128-byte swizzle (hopper.cuh).
#pragma once

#include <cuda.h>

#include <cstdint>

namespace cepe::hopper {

constexpr int kChunk = 64;  // values of 16 bits in a row of a tile
constexpr int kRowBytes = kChunk * 2;

// A (count, rows, width) array, contiguous, aligned to 16 bytes.
struct Array {
  const void* data;
  int64_t count, rows, width;
};
// Of bfloat16: (64, rows, chunks of 64, count), the innermost first, in boxes of box_rows x box_chunks chunks. width: a
// multiple of 64.
CUtensorMap map_of_chunks(const Array& a, int box_rows, int box_chunks);
// Of rows that are a row of each head, (rows, count, width): (64, rows, chunks of 64, count), in boxes of box_rows
// x 64.
CUtensorMap map_of_heads(const Array& a, int box_rows);
// Of bytes: (width, rows, count, 1), in boxes of box_rows x 128.
CUtensorMap map_of_bytes(const Array& a, int box_rows);

}  // namespace cepe::hopper
