#include "ops/latent/latent_attention_cuda.h"

#include <algorithm>

#include "ops/cuda/capability.h"
#include "ops/cuda/launch.h"
#include "ops/dispatch.h"
#include "ops/latent/latent_int8.h"
#include "ops/latent/latent_kernel.h"

namespace cepe {
namespace {

// Bytes of scores and weights that products keep at once, whatever the length of the context.
constexpr int64_t kScoreBytes = int64_t{256} << 20;

struct Problem {
  at::Tensor query, states, mask, scales, out;  // (C, R, E), (C, S, E), twice (C, S) or undefined, (C, R, E)
  void* stream;
  latent_kernel::Args args;
};

void one_pass(Problem& problem) {
  latent_kernel::Args& args = problem.args;
  const at::Tensor scratch =
      at::empty({latent_kernel::scratch_floats(args)}, problem.query.options().dtype(at::kFloat));
  args.scratch = scratch.mutable_data_ptr<float>();
  latent_kernel::latent_attention(args, problem.stream);
}

// Some blocks of one context: where they begin, and the number of the first among the context's blocks.
struct Blocks {
  int64_t context, token, number, count, tokens;
};

// sums (count, R, E) and statistics (count, 2, R), float32, of these blocks.
void read_blocks(const Problem& problem, const Blocks& blocks, at::Tensor sums, const at::Tensor& statistics) {
  const int64_t R = problem.args.rows, E = problem.args.width, n = blocks.count * blocks.tokens;
  at::Tensor states = problem.states[blocks.context].narrow(0, blocks.token, n);
  if (problem.scales.defined()) {
    states = dequantize_states({states, problem.scales[blocks.context].narrow(0, blocks.token, n)}, at::kBFloat16);
  }
  const at::Tensor scores = at::mm(problem.query[blocks.context], states.t(), at::kFloat);
  const at::Tensor weights = at::empty({R, blocks.count, blocks.tokens}, states.options());
  latent_kernel::WeighArgs args{};
  args.scores = scores.const_data_ptr<float>();
  if (problem.mask.defined()) args.mask = problem.mask[blocks.context].const_data_ptr<bool>() + blocks.token;
  args.weights = weights.mutable_data_ptr();
  args.statistics = statistics.mutable_data_ptr<float>();
  args.rows = R, args.blocks = blocks.count, args.block_tokens = blocks.tokens;
  args.scale = problem.args.scale;
  latent_kernel::weigh(args, problem.stream);
  at::bmm_out(sums, weights.permute({1, 0, 2}), states.view({blocks.count, blocks.tokens, E}), at::kFloat);
}

void products(const Problem& problem) {
  const latent_kernel::Args& args = problem.args;
  const int64_t C = args.contexts, R = args.rows, E = args.width, S = args.tokens;
  const int64_t block = std::min(S, latent_kernel::kMaxBlockTokens), whole = S / block;
  const int64_t parts = whole + (S % block != 0);
  const at::Tensor sums = at::empty({C, parts, R, E}, problem.query.options().dtype(at::kFloat));
  const at::Tensor statistics = at::empty({C, parts, 2, R}, sums.options());
  const int64_t at_once = std::max<int64_t>(1, kScoreBytes / (R * block * 6));
  for (int64_t c = 0; c < C; ++c) {
    const auto read = [&](int64_t number, int64_t count, int64_t tokens) {
      read_blocks(problem, {c, number * block, number, count, tokens}, sums[c].narrow(0, number, count),
                  statistics[c].narrow(0, number, count));
    };
    for (int64_t first = 0; first < whole; first += at_once) read(first, std::min(at_once, whole - first), block);
    if (S % block != 0) read(whole, 1, S % block);
  }
  latent_kernel::merge({sums.mutable_data_ptr<float>(), statistics.mutable_data_ptr<float>(), args.out, C, parts, R, E},
                       problem.stream);
}

}  // namespace

bool cuda_latent_attention_applies(const at::Tensor& query_BNE, const at::Tensor& states_BSE) {
  const at::ScalarType type = states_BSE.scalar_type();
  return query_BNE.is_cuda() && query_BNE.scalar_type() == at::kBFloat16 &&
         (type == at::kBFloat16 || type == at::kByte) && latent_kernel::width_fits(query_BNE.size(2));
}

at::Tensor cuda_latent_attention(const at::Tensor& query_BNE, const LatentStates& context, double scale,
                                 CudaLatentForm form) {
  const auto& [states_BSE, mask_BS, scales_BS, inputs_ready] = context;
  const cuda::Launch launch(query_BNE);
  const int64_t C = states_BSE.size(0), S = states_BSE.size(1), E = states_BSE.size(2);
  const int64_t R = query_BNE.size(0) * query_BNE.size(1) / C;  // of a shared context: the rows of the whole batch
  Problem problem{cuda::dense(query_BNE).view({C, R, E}), cuda::dense(states_BSE), mask_BS, scales_BS, {}, nullptr, {}};
  if (mask_BS.defined()) problem.mask = mask_BS.contiguous();
  if (scales_BS.defined()) problem.scales = scales_BS.contiguous();
  problem.out = at::empty(query_BNE.sizes(), query_BNE.options());
  problem.stream = launch.stream();
  latent_kernel::Args& args = problem.args;
  args.query = problem.query.const_data_ptr();
  args.states = problem.states.const_data_ptr();
  args.mask = problem.mask.defined() ? problem.mask.const_data_ptr<bool>() : nullptr;
  args.scales = problem.scales.defined() ? problem.scales.const_data_ptr<float>() : nullptr;
  args.out = problem.out.mutable_data_ptr();
  args.contexts = C, args.rows = R, args.tokens = S, args.width = E;
  args.scale = static_cast<float>(scale);
  // Else they were copied just now.
  args.inputs_ready = inputs_ready && problem.states.is_same(states_BSE) && problem.mask.is_same(mask_BS);
  args.any_gpu = form == CudaLatentForm::any_gpu || !cuda::capability().hopper;
  const int64_t many_rows = args.any_gpu          ? dispatch::kLatentProductRowsAnyGpu
                            : scales_BS.defined() ? dispatch::kLatentProductRowsOfBytes
                                                  : dispatch::kLatentProductRows;
  const bool many = form == CudaLatentForm::products || (form == CudaLatentForm::automatic && R >= many_rows);
  many ? products(problem) : one_pass(problem);
  return problem.out;
}

}  // namespace cepe
