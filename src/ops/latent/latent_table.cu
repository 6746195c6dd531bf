// The table of contexts of different lengths.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "ops/cuda/capability.h"
#include "ops/cuda/refuse.h"
#include "ops/latent/latent_backends.h"
#include "ops/latent/latent_kernel.h"
#include "ops/latent/latent_merge.cuh"
#include "ops/latent/latent_table.cuh"

namespace cepe::latent_kernel {
namespace {

// Where the parts of a table begin: entries at 0, then these.
struct TableLayout {
  int64_t sequences, first_tiles, totals, end;
  explicit TableLayout(int64_t count) {
    sequences = count * static_cast<int64_t>(sizeof(TableEntry));
    first_tiles = sequences + count * static_cast<int64_t>(sizeof(TableSequence));
    totals = first_tiles + count * static_cast<int64_t>(sizeof(int64_t));
    end = totals + static_cast<int64_t>(sizeof(TableTotals));
  }
};

}  // namespace

CUtensorMap map_of_states(const hopper::Array& a, bool eight_bits) {
  return eight_bits ? hopper::map_of_bytes(a, kTile) : hopper::map_of_chunks(a, kTile, 1);
}

Shares Shares::of(int tiles_of_pair, int64_t all, int most) {
  if (all > std::numeric_limits<int>::max() / 2)
    cuda::refuse("latent attention", "there are too many tokens times rows");
  Shares shares;
  shares.tiles = tiles_of_pair;
  if (all == 0) return shares;
  // As few as make the longest share no longer: each leaves parts.
  const int64_t longest = std::max(dispatch::kLatentReaderTiles, (all + most - 1) / most);
  shares.readers = static_cast<int>((all + longest - 1) / longest);
  shares.of_reader = cuda::EqualShares::of(static_cast<int>(all), shares.readers);
  return shares;
}

Table table_in(const void* memory, int64_t sequences) {
  const auto* const bytes = static_cast<const char*>(memory);
  const TableLayout layout(sequences);
  return {reinterpret_cast<const TableEntry*>(bytes), reinterpret_cast<const TableSequence*>(bytes + layout.sequences),
          reinterpret_cast<const int64_t*>(bytes + layout.first_tiles),
          reinterpret_cast<const TableTotals*>(bytes + layout.totals)};
}

int64_t table_bytes(int64_t sequences) { return TableLayout(sequences).end; }

void write_table(const TableShape& shape, const std::vector<TableContext>& contexts, void* memory) {
  const TableLayout layout(shape.sequences);
  std::memset(memory, 0, static_cast<size_t>(layout.end));
  auto* const bytes = static_cast<char*>(memory);
  auto* const entries = reinterpret_cast<TableEntry*>(bytes);
  auto* const sequences = reinterpret_cast<TableSequence*>(bytes + layout.sequences);
  auto* const first_tiles = reinterpret_cast<int64_t*>(bytes + layout.first_tiles);
  int64_t tiles = 0, pairs = 0, taken = 0;
  const bool maps = cuda::capability().hopper;
  for (size_t i = 0; i < contexts.size(); ++i) {
    const TableContext& c = contexts[i];
    if (c.tokens < 1) cuda::refuse("latent attention", "a context has no tokens");
    if (c.first < taken || c.count < 1 || c.first + c.count > shape.sequences) {
      cuda::refuse("latent attention", "a context's sequences are not of the batch, or another's");
    }
    taken = c.first + c.count;
    TableEntry& entry = entries[i];
    entry.data = c.states;
    if (maps) entry.states = map_of_states({c.states, 1, c.tokens, shape.width}, shape.eight_bits);
    entry.mask = c.mask, entry.scales = c.scales, entry.first_pair = pairs;
    entry.first_row = static_cast<int>(c.first * shape.rows), entry.rows = static_cast<int>(c.count * shape.rows);
    entry.tokens = static_cast<int>(c.tokens), entry.tiles = static_cast<int>(tiles_of(c.tokens));
    for (int64_t s = 0; s < c.count; ++s) {
      sequences[c.first + s] = {tiles, pairs, entry.tiles, static_cast<int>(s * shape.rows)};
    }
    first_tiles[i] = tiles;
    const int64_t row_blocks = (entry.rows + shape.block_rows - 1) / shape.block_rows;
    tiles += row_blocks * entry.tiles, pairs += row_blocks;
  }
  const Shares shares = Shares::of(0, tiles, most_readers(shape.reader_blocks));
  *reinterpret_cast<TableTotals*>(bytes + layout.totals) = {static_cast<int>(contexts.size()), shares.readers,
                                                            shares.of_reader};
}

}  // namespace cepe::latent_kernel
