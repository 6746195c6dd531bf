#include "ops/context/context_attention_cpu.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "ops/attention_cpu.h"
#include "ops/cpu/attention.h"
#include "ops/cpu/flash_attention.h"

namespace cepe {
namespace {

constexpr float kNone = -std::numeric_limits<float>::infinity();  // the score of what is not there
constexpr int64_t kBlock = ContextKeysValues::kBlock;
static_assert(kBlock == cpu::kBlock);

cpu::KeyValueType type_of(at::ScalarType type) {
  if (type == at::kChar) return cpu::KeyValueType::int8;
  return type == at::kFloat ? cpu::KeyValueType::float32 : cpu::KeyValueType::bfloat16;
}

// What one thread has read of one key-value head.
struct Partial {
  int64_t head;
  std::vector<float> sum, highest, total;
};

// out (N, K) = the parts brought to one scale, over their totals. No part, or none with a real token: zeros, or not a
// number where no score was one.
void merge_head(const std::vector<const Partial*>& parts, int64_t N, int64_t K, float* out) {
  for (int64_t n = 0; n < N; ++n) {
    const auto row = static_cast<size_t>(n);
    float highest = kNone, total = 0;
    for (const Partial* part : parts) highest = std::max(highest, part->highest[row]);
    for (const Partial* part : parts) {
      total += highest == kNone ? part->total[row] : part->total[row] * std::exp(part->highest[row] - highest);
    }
    std::fill_n(out + n * K, K, highest == kNone ? total : 0.0f);
    for (const Partial* part : parts) {
      if (highest == kNone) break;
      const float weight = std::exp(part->highest[row] - highest) / total;
      for (int64_t i = 0; i < K; ++i)
        out[n * K + i] += weight * part->sum[row * static_cast<size_t>(K) + static_cast<size_t>(i)];
    }
  }
}

// The context's blocks of all heads in one row, dealt to the threads in equal spans.
class Pass {
 public:
  Pass(const at::Tensor& query_HNK, const ContextKeysValues& context, const at::Tensor& mask_CS)
      : query_(query_HNK),
        k_(context.k),
        v_(context.v),
        k_scales_(context.k_scales),
        v_scales_(context.v_scales),
        mask_(mask_CS),
        chosen_(context.chosen.defined() ? context.chosen.const_data_ptr<int64_t>() : nullptr),
        read_(chosen_ ? context.chosen.numel() : context.k.size(0) * context.k.size(1) * context.k.size(2)),
        tokens_(context.tokens),
        blocks_(context.k.size(2)),
        kv_heads_(context.k.size(1)) {}

  // Many rows: threads share the rows, not the context.
  at::Tensor run_flash() const {
    const int64_t heads = query_.size(0), N = query_.size(1), K = query_.size(2);
    const at::Tensor out = at::empty({heads, N, K}, at::TensorOptions().dtype(at::kFloat));
    for_flash_pieces(heads, N, K, [&](const FlashPiece& piece) {
      const int64_t offset = piece.head * N * K;
      cpu::flash_attention({.query = query_.const_data_ptr<float>() + offset,
                            .query_token = K,
                            .out = out.mutable_data_ptr<float>() + offset,
                            .out_token = K,
                            .width = K,
                            .first = piece.first,
                            .count = piece.count},
                           span(piece.head, 0, blocks_), piece.scratch);
    });
    return out;
  }

  at::Tensor run() const {
    const int64_t heads = query_.size(0), N = query_.size(1), K = query_.size(2);
    const int64_t spans = std::min<int64_t>(at::get_num_threads(), read_);
    std::vector<std::vector<Partial>> found(static_cast<size_t>(spans));
    at::parallel_for(0, spans, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        found[static_cast<size_t>(i)] = read(read_ * i / spans, read_ * (i + 1) / spans);
    });
    std::vector<std::vector<const Partial*>> by_head(static_cast<size_t>(heads));
    for (const auto& parts : found) {
      for (const Partial& part : parts) by_head[static_cast<size_t>(part.head)].push_back(&part);
    }
    const at::Tensor out = at::empty({heads, N, K}, at::TensorOptions().dtype(at::kFloat));
    float* data = out.mutable_data_ptr<float>();
    at::parallel_for(0, heads, 16, [&](int64_t begin, int64_t end) {
      for (int64_t h = begin; h < end; ++h) merge_head(by_head[static_cast<size_t>(h)], N, K, data + h * N * K);
    });
    return out;
  }

  // log of the sum of exp(score) over each block's tokens, (heads, N, blocks); -infinity where none is real.
  at::Tensor block_sums() const {
    const int64_t heads = query_.size(0), N = query_.size(1), K = query_.size(2);
    const at::Tensor sums = at::empty({heads, N, blocks_}, at::TensorOptions().dtype(at::kFloat));
    float* const data = sums.mutable_data_ptr<float>();
    at::parallel_for(0, heads * blocks_, 64, [&](int64_t begin, int64_t end) {
      std::vector<float> highest(static_cast<size_t>(N)), total(static_cast<size_t>(N));
      for (int64_t i = begin; i < end; ++i) {
        const int64_t head = i / blocks_, block = i % blocks_;
        std::fill(highest.begin(), highest.end(), kNone);
        std::fill(total.begin(), total.end(), 0.0f);
        cpu::read_keys_values(
            {N, K, query_.const_data_ptr<float>() + head * N * K, nullptr, highest.data(), total.data()},
            span(head, block, block + 1));
        for (int64_t n = 0; n < N; ++n) {
          const auto row = static_cast<size_t>(n);
          data[(head * N + n) * blocks_ + block] = highest[row] + std::log(total[row]);
        }
      }
    });
    return sums;
  }

 private:
  // The block that is read as number i, of all heads' blocks.
  int64_t block_at(int64_t i) const { return chosen_ ? chosen_[i] : i; }

  // Blocks that are read as numbers first .. end lie side by side in one head.
  int64_t run_end(int64_t first, int64_t last) const {
    const int64_t head_end = (block_at(first) / blocks_ + 1) * blocks_;
    if (!chosen_) return std::min(last, head_end);
    int64_t end = first + 1;
    while (end < last && chosen_[end] == chosen_[end - 1] + 1 && chosen_[end] < head_end) ++end;
    return end;
  }

  std::vector<Partial> read(int64_t first, int64_t last) const {
    std::vector<Partial> parts;
    for (int64_t at = first; at < last;) {
      const int64_t end = run_end(at, last), head = block_at(at) / blocks_, block = block_at(at) % blocks_;
      if (parts.empty() || parts.back().head != head) parts.push_back(nothing_read(head));
      read_run(parts.back(), block, block + end - at);
      at = end;
    }
    return parts;
  }

  // A head's blocks first to last.
  cpu::KeyValueSpan span(int64_t head, int64_t first, int64_t last) const {
    const int64_t numbers = (head * blocks_ + first) * kBlock;
    const int64_t offset = numbers * query_.size(2) * static_cast<int64_t>(k_.element_size());
    const auto scales = [&](const at::Tensor& all) {
      return all.defined() ? all.const_data_ptr<float>() + numbers : nullptr;
    };
    const bool* real =
        mask_.defined() ? mask_.const_data_ptr<bool>() + head / kv_heads_ * tokens_ + first * kBlock : nullptr;
    return {static_cast<const char*>(k_.const_data_ptr()) + offset,
            static_cast<const char*>(v_.const_data_ptr()) + offset,
            type_of(k_.scalar_type()),
            std::min(last * kBlock, tokens_) - first * kBlock,
            real,
            scales(k_scales_),
            scales(v_scales_)};
  }

  Partial nothing_read(int64_t head) const {
    const auto rows = static_cast<size_t>(query_.size(1)), width = static_cast<size_t>(query_.size(2));
    return {head, std::vector<float>(rows * width), std::vector<float>(rows, kNone), std::vector<float>(rows)};
  }

  // Adds a head's blocks first to last.
  void read_run(Partial& part, int64_t first, int64_t last) const {
    const int64_t N = query_.size(1), K = query_.size(2);
    const float* const query = query_.const_data_ptr<float>() + part.head * N * K;
    cpu::read_keys_values({N, K, query, part.sum.data(), part.highest.data(), part.total.data()},
                          span(part.head, first, last));
  }

  at::Tensor query_, k_, v_, k_scales_, v_scales_, mask_;
  const int64_t* chosen_;  // null: all
  int64_t read_;           // blocks
  int64_t tokens_, blocks_, kv_heads_;
};

Pass pass_of(const at::Tensor& q, const ContextKeysValues& context, const at::Tensor& mask_CS) {
  const double scale = 1.0 / std::sqrt(static_cast<double>(q.size(3)));
  const at::Tensor query = q.to(at::kFloat).mul(scale).flatten(0, 1).contiguous();
  return {query, context, mask_CS.defined() ? mask_CS.contiguous() : mask_CS};
}

}  // namespace

bool kept_by_kernel(int64_t head_dim) { return head_dim % cpu::kMostLanes == 0; }

bool context_kernel_applies(const at::Tensor& q, const ContextKeysValues& context) {
  const auto type = context.k.scalar_type();
  const bool known = type == at::kFloat || type == at::kBFloat16 || type == at::kChar;
  return context.blocked() && known && kept_by_kernel(q.size(3)) && q.scalar_type() != at::kDouble;
}

at::Tensor run_context_kernel(const at::Tensor& q, const ContextKeysValues& context, const at::Tensor& mask_CS) {
  const Pass pass = pass_of(q, context, mask_CS);
  // Flash pieces are rows of one head: few heads and rows leave threads without work, where run() deals the context.
  const int64_t strips = (q.size(2) + cpu::flash_strip() - 1) / cpu::flash_strip();
  const bool busy = q.size(0) * q.size(1) * strips >= at::get_num_threads();
  const bool flash = busy && cpu_flash_pays(q.size(2)) && !context.chosen.defined();
  return (flash ? pass.run_flash() : pass.run()).view(q.sizes());
}

at::Tensor run_block_sums(const at::Tensor& q, const ContextKeysValues& context, const at::Tensor& mask_CS) {
  return pass_of(q, context, mask_CS).block_sums().view({q.size(0), q.size(1), q.size(2), -1});
}

bool int8_writer_applies(const at::Tensor& k, const at::Tensor& v) {
  return k.scalar_type() == at::kFloat && v.scalar_type() == at::kFloat && k.is_contiguous() && v.is_contiguous() &&
         k.size(3) % cpu::kMostLanes == 0;
}

void write_int8_context(ContextKeysValues& to, int64_t first, const at::Tensor& k_CnGK, const at::Tensor& v_CnGK) {
  const int64_t C = k_CnGK.size(0), n = k_CnGK.size(1), G = k_CnGK.size(2), K = k_CnGK.size(3);
  const int64_t padded = to.v.size(2);  // tokens of a head
  at::parallel_for(0, C * G, 1, [&](int64_t begin, int64_t end) {
    for (int64_t head = begin; head < end; ++head) {
      const int64_t read = head / G * n * G * K + head % G * K, written = head * padded + first;
      const auto from = [&](const at::Tensor& x) {
        return cpu::Int8Source{x.const_data_ptr<float>() + read, n, K, G * K};
      };
      cpu::write_int8_keys(from(k_CnGK), to.k.mutable_data_ptr<int8_t>() + written * K,
                           to.k_scales.mutable_data_ptr<float>() + written);
      cpu::write_int8_values(from(v_CnGK), to.v.mutable_data_ptr<int8_t>() + written * K,
                             to.v_scales.mutable_data_ptr<float>() + written);
    }
  });
}

}  // namespace cepe
