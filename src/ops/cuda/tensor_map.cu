#include "ops/cuda/tensor_map.cuh"

#include <cuda_runtime.h>

#include "ops/cuda/refuse.h"

namespace cepe::hopper {
namespace {

constexpr cuuint32_t kByteBoxWidth = 128;

using EncodeTiled = decltype(&cuTensorMapEncodeTiled);
EncodeTiled encode_tiled() {
  static const EncodeTiled function = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result{};
    const cudaError_t status =
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result);
    if (status != cudaSuccess || !found) cuda::refuse("bulk copies", "the driver has no cuTensorMapEncodeTiled");
    return reinterpret_cast<EncodeTiled>(found);
  }();
  return function;
}

CUtensorMap map_of(CUtensorMapDataType type, const void* data, const cuuint64_t (&sizes)[4],
                   const cuuint64_t (&strides)[3], const cuuint32_t (&box)[4]) {
  CUtensorMap map;
  const cuuint32_t steps[4] = {1, 1, 1, 1};
  const CUresult result =
      encode_tiled()(&map, type, 4, const_cast<void*>(data), sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                     CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) cuda::refuse("bulk copies", "no tensor map can describe the array");
  return map;
}

cuuint64_t size(int64_t n) { return static_cast<cuuint64_t>(n); }

}  // namespace

CUtensorMap map_of_chunks(const Array& a, int box_rows, int box_chunks) {
  return map_of(CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, a.data, {kChunk, size(a.rows), size(a.width / kChunk), size(a.count)},
                {size(a.width * 2), kRowBytes, size(a.rows * a.width * 2)},
                {kChunk, static_cast<cuuint32_t>(box_rows), static_cast<cuuint32_t>(box_chunks), 1});
}

CUtensorMap map_of_heads(const Array& a, int box_rows) {
  return map_of(CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, a.data, {kChunk, size(a.rows), size(a.width / kChunk), size(a.count)},
                {size(a.count * a.width * 2), kRowBytes, size(a.width * 2)},
                {kChunk, static_cast<cuuint32_t>(box_rows), 1, 1});
}

CUtensorMap map_of_bytes(const Array& a, int box_rows) {
  return map_of(CU_TENSOR_MAP_DATA_TYPE_UINT8, a.data, {size(a.width), size(a.rows), size(a.count), 1},
                {size(a.width), size(a.rows * a.width), size(a.count * a.rows * a.width)},
                {kByteBoxWidth, static_cast<cuuint32_t>(box_rows), 1, 1});
}

}  // namespace cepe::hopper
