#include "ops/latent/context_table.h"

#include <algorithm>

#include "ops/dispatch.h"

namespace cepe {
namespace {

// That read one context.
int64_t rows_of(const TableBatch& batch, const TableRange& range) {
  return batch.rows * (range.context.states_BSE.size(0) == 1 ? range.count : 1);
}

bool one_pass_pays(const TableBatch& batch, const std::vector<TableRange>& ranges) {
  return most_rows_of_a_context(batch, ranges) < dispatch::kTableProductRows;
}

}  // namespace

int64_t most_rows_of_a_context(const TableBatch& batch, const std::vector<TableRange>& ranges) {
  int64_t rows = batch.rows;
  for (const TableRange& range : ranges) rows = std::max(rows, rows_of(batch, range));
  return rows;
}

bool ContextTable::takes(const std::vector<TableRange>& ranges) const {
  return context_table_applies(batch_, ranges) &&
         (ranges.empty() || (ranges[0].context.states_BSE.scalar_type() == at::kByte) == eight_bits_);
}

bool ContextTable::replace(const std::vector<TableRange>& ranges) {
  if (!takes(ranges) || !one_pass_pays(batch_, ranges)) return false;
  set(ranges);
  return true;
}

std::unique_ptr<ContextTable> make_context_table(const TableBatch& batch, const std::vector<TableRange>& ranges) {
  if (!context_table_applies(batch, ranges) || !one_pass_pays(batch, ranges)) return nullptr;
  return std::make_unique<ContextTable>(batch, ranges);
}

}  // namespace cepe
