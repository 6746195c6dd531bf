#include "io/tensor_source.h"

namespace cepe {
namespace {

struct DTypeInfo {
  std::string_view name;
  size_t elements, bytes;  // of one block
};

// In the order of DType.
constexpr DTypeInfo kTypeInfos[] = {
    {"F64", 1, 8},    {"F32", 1, 4},    {"F16", 1, 2},    {"BF16", 1, 2},     {"I64", 1, 8},      {"I32", 1, 4},
    {"I16", 1, 2},    {"I8", 1, 1},     {"U8", 1, 1},     {"BOOL", 1, 1},     {"Q4_0", 32, 18},   {"Q4_1", 32, 20},
    {"Q5_0", 32, 22}, {"Q5_1", 32, 24}, {"Q8_0", 32, 34}, {"Q4_K", 256, 144}, {"Q5_K", 256, 176}, {"Q6_K", 256, 210},
};
static_assert(std::size(kTypeInfos) == static_cast<size_t>(DType::q6_k) + 1);

const DTypeInfo& info(DType type) { return kTypeInfos[static_cast<size_t>(type)]; }

}  // namespace

std::string_view dtype_name(DType type) { return info(type).name; }
size_t block_elements(DType type) { return info(type).elements; }
size_t block_bytes(DType type) { return info(type).bytes; }

int64_t TensorView::elements() const {
  int64_t count = 1;
  for (int64_t dimension : shape) count *= dimension;
  return count;
}

}  // namespace cepe
