#include "io/layout.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "base/error.h"

namespace cepe {
namespace {

constexpr size_t kLongestName = 1024;

// Length of the UTF-8 sequence at the start of text, or 0 when it is none (RFC 3629: no overlong forms, no
// surrogates, nothing past U+10FFFF) or a control character.
size_t sequence_length(std::string_view text) {
  auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  unsigned first = byte(0);
  if (first < 0x80) return first >= 0x20 && first != 0x7F ? 1 : 0;
  size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  unsigned second = byte(1);
  bool overlong = (first == 0xE0 && second < 0xA0) || (first == 0xF0 && second < 0x90);
  bool outside = (first == 0xED && second > 0x9F) || (first == 0xF4 && second > 0x8F);
  bool control = first == 0xC2 && second < 0xA0;
  return overlong || outside || control ? 0 : length;
}

}  // namespace

bool is_valid_name(std::string_view name) {
  if (name.empty() || name.size() > kLongestName) return false;
  while (!name.empty()) {
    size_t length = sequence_length(name);
    if (length == 0) return false;
    name.remove_prefix(length);
  }
  return true;
}

std::string quotable(std::string_view name) {
  return is_valid_name(name) && name.size() <= 120 ? std::string(name) : "(a name not fit to print)";
}

void refuse_git_lfs_pointer(const std::filesystem::path& path, std::span<const std::byte> file) {
  constexpr std::string_view kPointer = "version https://git-lfs.github.com/spec/";
  const std::string_view text(reinterpret_cast<const char*>(file.data()), std::min(file.size(), kPointer.size()));
  require(text != kPointer, "{}: a pointer of Git LFS, not the weights themselves: fetch them with git lfs pull",
          path.string());
}

std::optional<uint64_t> tensor_bytes(DType type, const std::vector<int64_t>& shape) {
  constexpr auto kLimit = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  auto block = static_cast<int64_t>(block_elements(type));
  if (block > 1 && (shape.empty() || shape.back() % block != 0)) return std::nullopt;
  uint64_t elements = 1;
  bool empty = false;
  for (int64_t dimension : shape) {
    if (dimension < 0) return std::nullopt;
    empty |= dimension == 0;
    if (__builtin_mul_overflow(elements, static_cast<uint64_t>(std::max<int64_t>(dimension, 1)), &elements) ||
        elements > kLimit) {
      return std::nullopt;
    }
  }
  if (empty) return 0;
  uint64_t bytes = 0;
  if (__builtin_mul_overflow(elements / block_elements(type), static_cast<uint64_t>(block_bytes(type)), &bytes) ||
      bytes > kLimit) {
    return std::nullopt;
  }
  return bytes;
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (int64_t dimension : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(dimension);
  return text + "]";
}

std::vector<size_t> order_without_overlap(const std::filesystem::path& path, const std::vector<TensorView>& tensors,
                                          const std::vector<ByteRange>& ranges) {
  std::vector<size_t> order(ranges.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::pair(ranges[a].begin, ranges[a].end) < std::pair(ranges[b].begin, ranges[b].end);
  });
  for (size_t i = 1; i < order.size(); ++i) {
    size_t before = order[i - 1], after = order[i];
    if (ranges[before].end > ranges[after].begin) {
      fail("{}: tensors {} and {} overlap: the first ends at byte {}, the second begins at byte {}", path.string(),
           tensors[before].name, tensors[after].name, ranges[before].end, ranges[after].begin);
    }
  }
  return order;
}

}  // namespace cepe
