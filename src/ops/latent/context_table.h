// The contexts that the sequences of a batch read in absorbed cross-attention. Contexts differ in length; sequences may
// share a context or have none. On a CUDA device one launch reads all contexts, and a recorded CUDA graph
// (ops/step/captured_work.h) reads the contexts that the table holds when the graph runs: set() needs no new recording.
// docs/kernels/latent_attention.md
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <memory>
#include <vector>

#include "ops/latent/latent_states.h"

namespace cepe {

// Sequences first .. first + count of a batch, and what they read.
struct TableRange {
  LatentStates context;  // one that they share, or one for each of them; at least one token
  int64_t first = 0, count = 0;
};

// The queries, (sequences, rows, width).
struct TableBatch {
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kBFloat16;
  int64_t sequences = 0, rows = 0, width = 0;
};

// The most rows that read one context.
int64_t most_rows_of_a_context(const TableBatch& batch, const std::vector<TableRange>& ranges);
// Whether there is a kernel for these: on a CUDA device where latent_attention() has one, and all states are of one
// type.
bool context_table_applies(const TableBatch& batch, const std::vector<TableRange>& ranges);

// Not thread-safe.
class ContextTable {
 public:
  // ranges: in the order of their sequences. A pass takes as many rows together as the widest of them has, up to 32;
  // contexts that are set later are read right whatever that is, but more than once where more rows share them.
  ContextTable(const TableBatch& batch, const std::vector<TableRange>& ranges);
  ContextTable(const ContextTable&) = delete;

  // Whether set() takes these: context_table_applies(), in the same type of states as before.
  bool takes(const std::vector<TableRange>& ranges) const;
  // Replaces all contexts, which the table holds from then on, in order with the device's current stream. Does not wait
  // for the device. Throws Error where ranges overlap or leave the batch; the table is then as it was.
  void set(const std::vector<TableRange>& ranges);
  // set(), where it takes these and one pass over them is still the fastest way; false: the table is as it was.
  bool replace(const std::vector<TableRange>& ranges);

  const TableBatch& batch() const { return batch_; }
  const at::Tensor& memory() const { return memory_; }  // on the device: latent_kernel::write_table()
  int block_rows() const { return block_rows_; }
  int reader_blocks() const { return reader_blocks_; }
  bool eight_bits() const { return eight_bits_; }

 private:
  TableBatch batch_;
  int block_rows_ = 0, reader_blocks_ = 0;
  bool eight_bits_ = false;
  at::Tensor memory_;
  std::vector<TableRange> ranges_;
};

// A table where there is a kernel for these and one pass is the fastest way; else null.
std::unique_ptr<ContextTable> make_context_table(const TableBatch& batch, const std::vector<TableRange>& ranges);

// As latent_attention() of latent_attention.h, each sequence on its own context; zeros where it has none.
// query (B, N, E) -> (B, N, E)
at::Tensor latent_attention(const at::Tensor& query_BNE, const ContextTable& table, double scale);

}  // namespace cepe
