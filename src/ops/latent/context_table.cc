#include "ops/latent/context_table.h"

#include <algorithm>

namespace cepe {
namespace {

// Rows of one context from which products are faster (latent_attention_cuda.cc) even though the others' contexts are
// then read by launches of their own: a pass takes 66 us for 32 rows of 126,976 states, products 330 us for 128 rows.
constexpr int64_t kManyRows = 192;

// That read one context.
int64_t rows_of(const TableBatch& batch, const TableRange& range) {
  return batch.rows * (range.context.states_BSE.size(0) == 1 ? range.count : 1);
}

}  // namespace

int64_t most_rows_of_a_context(const TableBatch& batch, const std::vector<TableRange>& ranges) {
  int64_t rows = batch.rows;
  for (const TableRange& range : ranges) rows = std::max(rows, rows_of(batch, range));
  return rows;
}

bool context_table_pays(const TableBatch& batch, const std::vector<TableRange>& ranges) {
  return most_rows_of_a_context(batch, ranges) < kManyRows;
}

bool ContextTable::takes(const std::vector<TableRange>& ranges) const {
  return context_table_applies(batch_, ranges) &&
         (ranges.empty() || (ranges[0].context.states_BSE.scalar_type() == at::kByte) == eight_bits_);
}

}  // namespace cepe
