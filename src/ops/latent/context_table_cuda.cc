#include <algorithm>

#include "base/error.h"
#include "ops/cuda/launch.h"
#include "ops/latent/context_table.h"
#include "ops/latent/latent_kernel.h"

namespace cepe {
namespace {

bool on_device(const at::Tensor& x, const at::Device& device) {
  return x.device().type() == device.type() && (!device.has_index() || x.device() == device);
}

// The same where the kernel can read it; a copy only where it must be one.
TableRange readable(const TableRange& range) {
  TableRange own = range;
  auto& [states, mask, scales, inputs_ready] = own.context;
  states = cuda::dense(states);
  if (mask.defined()) mask = mask.contiguous();
  if (scales.defined()) scales = scales.contiguous();
  return own;
}

// What the kernel's table holds of a range: one context, or one for each sequence.
void add_contexts(const TableRange& range, std::vector<latent_kernel::TableContext>& contexts) {
  const auto& [states, mask, scales, inputs_ready] = range.context;
  const int64_t count = states.size(0), S = states.size(1);
  const int64_t bytes = S * states.size(2) * static_cast<int64_t>(states.element_size());
  for (int64_t c = 0; c < count; ++c) {
    contexts.push_back({static_cast<const char*>(states.const_data_ptr()) + c * bytes,
                        scales.defined() ? scales.const_data_ptr<float>() + c * S : nullptr,
                        mask.defined() ? mask.const_data_ptr<bool>() + c * S : nullptr, S, range.first + c,
                        count == 1 ? range.count : 1});
  }
}

latent_kernel::TableShape shape_of(const ContextTable& table) {
  const TableBatch& batch = table.batch();
  return {batch.sequences, batch.rows, batch.width, table.block_rows(), table.eight_bits(), table.reader_blocks()};
}

}  // namespace

bool context_table_applies(const TableBatch& batch, const std::vector<TableRange>& ranges) {
  if (!batch.device.is_cuda() || batch.dtype != at::kBFloat16 || !latent_kernel::width_fits(batch.width)) return false;
  return std::all_of(ranges.begin(), ranges.end(), [&](const TableRange& range) {
    const at::Tensor& states = range.context.states_BSE;
    const at::ScalarType type = states.scalar_type();
    return on_device(states, batch.device) && (type == at::kBFloat16 || type == at::kByte) &&
           type == ranges[0].context.states_BSE.scalar_type() && states.size(2) == batch.width;
  });
}

ContextTable::ContextTable(const TableBatch& batch, const std::vector<TableRange>& ranges) : batch_(batch) {
  if (!batch_.device.has_index()) batch_.device.set_index(c10::cuda::current_device());
  require(context_table_applies(batch, ranges), "contexts of different lengths: no kernel for states of width {}",
          batch.width);
  const c10::cuda::CUDAGuard guard(batch_.device);
  eight_bits_ = !ranges.empty() && ranges[0].context.states_BSE.scalar_type() == at::kByte;
  block_rows_ = latent_kernel::block_rows_for(most_rows_of_a_context(batch, ranges), eight_bits_);
  int64_t tokens = 0;
  for (const TableRange& range : ranges) tokens += range.context.states_BSE.size(0) * range.context.states_BSE.size(1);
  reader_blocks_ = latent_kernel::reader_blocks_for(batch.width, eight_bits_, block_rows_, tokens);
  memory_ = at::empty({latent_kernel::table_bytes(batch.sequences)},
                      at::TensorOptions().device(batch.device).dtype(at::kByte));
  set(ranges);
}

void ContextTable::set(const std::vector<TableRange>& ranges) {
  require(takes(ranges), "contexts of different lengths: states of a type or width that the table was not made for");
  const c10::cuda::CUDAGuard guard(batch_.device);
  std::vector<TableRange> held;
  std::vector<latent_kernel::TableContext> contexts;
  for (const TableRange& range : ranges) {
    const int64_t count = range.context.states_BSE.size(0);
    require(count == 1 || count == range.count, "contexts of different lengths: {} contexts for {} sequences", count,
            range.count);
    add_contexts(held.emplace_back(readable(range)), contexts);
  }
  // New pinned memory each time: the allocator hands it out again only when the copy is over.
  const at::Tensor written = at::empty({memory_.numel()}, at::TensorOptions().dtype(at::kByte).pinned_memory(true));
  latent_kernel::write_table(shape_of(*this), contexts, written.mutable_data_ptr());
  memory_.copy_(written, /*non_blocking=*/true);
  ranges_ = std::move(held);
}

at::Tensor latent_attention(const at::Tensor& query_BNE, const ContextTable& table, double scale) {
  const TableBatch& batch = table.batch();
  require(query_BNE.sizes() == at::IntArrayRef({batch.sequences, batch.rows, batch.width}) &&
              query_BNE.scalar_type() == batch.dtype && query_BNE.device() == batch.device,
          "contexts of different lengths: the table is for {} sequences of {} rows of width {}", batch.sequences,
          batch.rows, batch.width);
  const cuda::Launch launch(batch.device);
  const at::Tensor query = cuda::dense(query_BNE);
  const at::Tensor out = at::empty(query.sizes(), query.options());
  const latent_kernel::TableShape shape = shape_of(table);
  latent_kernel::Args args{};
  args.query = query.const_data_ptr();
  args.out = out.mutable_data_ptr();
  args.contexts = batch.sequences, args.rows = batch.rows, args.width = batch.width;
  args.scale = static_cast<float>(scale);
  args.table = table.memory().const_data_ptr(), args.shape = &shape;
  const at::Tensor scratch = at::empty({latent_kernel::scratch_floats(args)}, query.options().dtype(at::kFloat));
  args.scratch = scratch.mutable_data_ptr<float>();
  latent_kernel::latent_attention(args, launch.stream());
  return out;
}

}  // namespace cepe
