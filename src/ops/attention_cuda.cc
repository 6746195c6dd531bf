#include "ops/attention_cuda.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "base/error.h"
#include "ops/cuda/launch.h"
#include "ops/dispatch.h"
#include "ops/elementwise/elementwise_cuda.h"
#include "ops/elementwise/elementwise_kernel.h"

namespace cepe {
namespace {

using cuda::dense;
using cuda::Launch;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Rows that `keep` marks, moved to the front; the rest of the result is not written.
class PackRows : public torch::autograd::Function<PackRows> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x_in, const at::Tensor& keep,
                            const at::Tensor& rank) {
    at::AutoDispatchBelowAutograd guard;
    const at::Tensor x = dense(x_in), y = at::empty_like(x);
    ctx->save_for_backward({keep, rank});
    const Launch launch(x);
    fused::pack_rows(args(x, y, keep, rank), launch.stream());
    return y;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor grad = dense(grads[0]), out = at::empty_like(grad);
    const Launch launch(grad);
    fused::unpack_rows(args(grad, out, saved[0], saved[1]), launch.stream());
    return {out, {}, {}};
  }

 private:
  static fused::PackRowsArgs args(const at::Tensor& from, const at::Tensor& to, const at::Tensor& keep,
                                  const at::Tensor& rank) {
    const int64_t rows = keep.numel(), row_bytes = from.numel() / rows * from.element_size();
    return {from.const_data_ptr(),
            to.mutable_data_ptr(),
            keep.const_data_ptr<bool>(),
            rank.const_data_ptr<int32_t>(),
            rows,
            row_bytes};
  }
};

}  // namespace

bool flash_applies(const at::Tensor& q_BTHK) {
  return fused_applies(q_BTHK) && q_BTHK.size(3) % 8 == 0 && q_BTHK.size(3) <= dispatch::kFlashHeadSize &&
         q_BTHK.numel() > 0;
}

at::Tensor flash_causal_attention(const at::Tensor& q_BTHK, const at::Tensor& k_BSGK, const at::Tensor& v_BSGK) {
  // The flash kernel aligns the causal mask with the last key, as we do; LibTorch's own choice refuses T != S.
  return std::get<0>(at::_flash_attention_forward(q_BTHK, k_BSGK, v_BSGK, std::nullopt, std::nullopt, q_BTHK.size(1),
                                                  k_BSGK.size(1), 0.0, /*is_causal=*/true, false));
}

namespace {

// Which row each key is moved to, and where a sequence's queries and keys end.
struct KeyRanks {
  at::Tensor keep, rank, query_ends, ends;
};

// The packed arrays keep room for all B * S keys: their number stays on the device, which need not wait for the host.
KeyRanks key_ranks(const at::Tensor& keys_BS, int64_t queries) {
  const int64_t B = keys_BS.size(0), S = keys_BS.size(1);
  KeyRanks out;
  out.keep = keys_BS.contiguous();
  out.rank = out.keep.view(-1).cumsum(0, at::kInt);
  out.ends = at::constant_pad_nd(out.rank.view({B, S}).select(1, S - 1), {1, 0});
  out.query_ends = at::arange(0, (B + 1) * queries, queries, out.rank.options());
  return out;
}

}  // namespace

PackedKeys flash_pack_keys(const at::Tensor& all_BSN, const at::Tensor& keys_BS, int64_t queries) {
  const KeyRanks ranks = key_ranks(keys_BS, queries);
  const at::Tensor rows = PackRows::apply(all_BSN.flatten(0, 1), ranks.keep, ranks.rank);
  return {rows, ranks.query_ends, ranks.ends, queries, keys_BS.size(1)};
}

at::Tensor flash_attend_packed(const at::Tensor& q_BTHK, const at::Tensor& k_RGK, const at::Tensor& v_RGK,
                               const PackedKeys& packed) {
  return std::get<0>(at::_flash_attention_forward(q_BTHK.flatten(0, 1), k_RGK, v_RGK, packed.query_ends, packed.ends,
                                                  packed.queries, packed.keys, 0.0, /*is_causal=*/false, false))
      .view(q_BTHK.sizes());
}

at::Tensor flash_masked_attention(const at::Tensor& q_BTHK, const at::Tensor& k_BSGK, const at::Tensor& v_BSGK,
                                  const at::Tensor& keys_BS) {
  const int64_t T = q_BTHK.size(1), S = k_BSGK.size(1);
  const KeyRanks ranks = key_ranks(keys_BS, T);
  const at::Tensor k = PackRows::apply(k_BSGK.flatten(0, 1), ranks.keep, ranks.rank);
  const at::Tensor v = PackRows::apply(v_BSGK.flatten(0, 1), ranks.keep, ranks.rank);
  return flash_attend_packed(q_BTHK, k, v, {{}, ranks.query_ends, ranks.ends, T, S});
}

at::Tensor flash_packed_attention(const at::Tensor& q_1THK, const at::Tensor& k_1TGK, const at::Tensor& v_1TGK,
                                  const PackedSequences& sequences) {
  const int64_t longest = *std::max_element(sequences.lengths.begin(), sequences.lengths.end());
  return std::get<0>(at::_flash_attention_forward(q_1THK.squeeze(0), k_1TGK.squeeze(0), v_1TGK.squeeze(0),
                                                  sequences.bounds, sequences.bounds, longest, longest, 0.0,
                                                  /*is_causal=*/false, false))
      .unsqueeze(0);
}

bool fused_merge_applies(const at::Tensor& out) {
  return fused_applies(out) && out.dim() == 4 && out.is_non_overlapping_and_dense() && out.stride(3) == 1 &&
         out.size(3) % 8 == 0 && out.numel() > 0 && reinterpret_cast<uintptr_t>(out.const_data_ptr()) % 16 == 0;
}

void fused_merge_attention(const at::Tensor& out, const at::Tensor& log_sum_exp, at::Tensor& sum, at::Tensor& total) {
  const bool first = !sum.defined();
  if (first) sum = at::empty_strided(out.sizes(), out.strides(), out.options().dtype(at::kFloat));
  require(sum.strides() == out.strides() && sum.sizes() == out.sizes(),
          "attention over a context: its parts differ in their layout");
  const at::Tensor mine = log_sum_exp.contiguous(), before = first ? total : total.contiguous(),
                   merged = at::empty_like(mine);
  const Launch launch(out);
  fused::MergeAttentionArgs args{};
  args.out = out.const_data_ptr();
  args.log_sum_exp = mine.const_data_ptr<float>();
  args.before = first ? nullptr : before.const_data_ptr<float>();
  args.sum = sum.mutable_data_ptr<float>();
  args.merged = merged.mutable_data_ptr<float>();
  args.contexts = out.size(0), args.heads = out.size(1), args.rows = out.size(2), args.head_size = out.size(3);
  args.stride_context = out.stride(0), args.stride_head = out.stride(1), args.stride_row = out.stride(2);
  fused::merge_attention(args, launch.stream());
  total = merged;
}

}  // namespace cepe
