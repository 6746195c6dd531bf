#include "vectors/vector_graph.h"

#include <hnswlib/hnswlib.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <exception>
#include <limits>
#include <mutex>
#include <optional>
#include <thread>

#include "base/error.h"
#include "base/file.h"

namespace cepe {
namespace {

using Graph = hnswlib::HierarchicalNSW<float>;

// What stands in the graph in place of a vector: its row. The query is a row as well.
using Row = uint32_t;
constexpr Row kQuery = std::numeric_limits<Row>::max();
constexpr unsigned kLevelSeed = 100;

struct Distance {
  VectorRows rows;
  const float* query = nullptr;
  hnswlib::DISTFUNC<float> function = nullptr;  // hnswlib's for vectors of this width: 1 - their inner product
  size_t width = 0;

  const float* vector(const void* at) const {
    Row row;
    std::memcpy(&row, at, sizeof row);
    return row == kQuery ? query : rows.first + int64_t{row} * rows.width;
  }
  static float between(const void* a, const void* b, const void* distance) {
    const auto& self = *static_cast<const Distance*>(distance);
    return self.function(self.vector(a), self.vector(b), &self.width);
  }
};

class RowSpace : public hnswlib::SpaceInterface<float> {
 public:
  explicit RowSpace(const VectorRows& rows) : vectors_(static_cast<size_t>(rows.width)) {
    distance_.rows = rows;
    distance_.function = vectors_.get_dist_func();
    distance_.width = static_cast<size_t>(rows.width);
  }
  size_t get_data_size() override { return sizeof(Row); }
  hnswlib::DISTFUNC<float> get_dist_func() override { return Distance::between; }
  void* get_dist_func_param() override { return &distance_; }
  Distance& distance() { return distance_; }

 private:
  hnswlib::InnerProductSpace vectors_;
  Distance distance_;
};

// Numbers of a list of links, as hnswlib lays them out.
struct Layout {
  explicit Layout(const GraphOptions& options)
      : upper(static_cast<size_t>(options.links + 1) * sizeof(hnswlib::tableint)),
        lowest(static_cast<size_t>(2 * options.links + 1) * sizeof(hnswlib::tableint)),
        label(lowest + sizeof(Row)),
        element(label + sizeof(hnswlib::labeltype)) {}
  size_t upper, lowest, label, element;  // bytes of a list, of an element, and where its label stands in it
};
constexpr size_t kHeader = 9 * sizeof(size_t) + 2 * sizeof(int) + sizeof(double) + sizeof(size_t);

// The header that saveIndex() writes; entry point and highest level, which only the graph knows, are those of `found`.
std::string header_of(const GraphOptions& options, size_t rows, std::string_view found) {
  const Layout layout(options);
  std::string header;
  const auto add = [&](const auto& value) { header.append(reinterpret_cast<const char*>(&value), sizeof value); };
  for (const size_t value : {size_t{0}, rows, rows, layout.element, layout.label, layout.lowest}) add(value);
  header += found.substr(header.size(), 2 * sizeof(int));
  const auto links = static_cast<size_t>(options.links);
  for (const size_t value : {links, 2 * links, links}) add(value);
  add(1 / std::log(1.0 * static_cast<double>(links)));
  add(std::max(static_cast<size_t>(options.candidates), links));
  return header;
}

// A search follows links without a look at where they lead.
bool links_lead_somewhere(const Graph& graph) {
  const size_t rows = graph.cur_element_count;
  const auto has_level = [&](size_t row, int level) { return row < rows && graph.element_levels_[row] >= level; };
  if (rows == 0) return true;
  if (graph.maxlevel_ < 0 || !has_level(graph.enterpoint_node_, graph.maxlevel_)) return false;
  for (size_t row = 0; row < rows; ++row) {
    Row stored;
    const auto id = static_cast<hnswlib::tableint>(row);
    std::memcpy(&stored, graph.getDataByInternalId(id), sizeof stored);
    if (stored >= rows || graph.getExternalLabel(id) != stored) return false;
    for (int level = 0; level <= graph.element_levels_[row]; ++level) {
      const hnswlib::linklistsizeint* list = graph.get_linklist_at_level(id, level);
      const size_t count = graph.getListCount(const_cast<hnswlib::linklistsizeint*>(list));
      if (count > (level == 0 ? graph.maxM0_ : graph.maxM_)) return false;
      if (!std::all_of(list + 1, list + 1 + count, [&](size_t to) { return has_level(to, level); })) return false;
    }
  }
  return graph.label_lookup_.size() == rows;
}

// Runs work(row) for all rows from `first` on; the first exception of any thread is thrown.
void for_rows(int64_t first, int64_t count, int threads, const std::function<void(int64_t)>& work) {
  std::atomic<int64_t> next{first};
  std::exception_ptr failure;
  std::mutex guard;
  const auto run = [&] {
    try {
      for (int64_t row = next++; row < count; row = next++) work(row);
    } catch (...) {
      const std::lock_guard lock(guard);
      if (!failure) failure = std::current_exception();
      next = count;
    }
  };
  std::vector<std::thread> others;
  for (int i = 1; i < threads; ++i) others.emplace_back(run);
  run();
  for (std::thread& thread : others) thread.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace

struct VectorGraph::Parts {
  explicit Parts(const VectorRows& rows) : space(rows) {}
  mutable RowSpace space;
  std::unique_ptr<Graph> graph;
};

void check_graph_options(const GraphOptions& options, const std::string& where) {
  require(options.links >= 2 && options.links <= 256, "{}: expected 2 to 256 links of a vector, found {}", where,
          options.links);
  require(options.candidates >= 1 && options.candidates <= 10'000, "{}: expected 1 to 10,000 candidates, found {}",
          where, options.candidates);
}

VectorGraph::VectorGraph(const VectorRows& rows, const GraphOptions& options, int threads,
                         const std::function<void(int64_t done, int64_t total)>& progress)
    : parts_(std::make_unique<Parts>(rows)) {
  check_graph_options(options, "the graph");
  require(rows.count < std::numeric_limits<int32_t>::max(), "the graph links fewer than 2^31 vectors, found {}",
          rows.count);
  parts_->graph =
      std::make_unique<Graph>(&parts_->space, static_cast<size_t>(rows.count), static_cast<size_t>(options.links),
                              static_cast<size_t>(options.candidates), kLevelSeed);
  constexpr int64_t kTold = 1000;
  const std::thread::id mine = std::this_thread::get_id();
  std::atomic<int64_t> done{0};
  const auto link = [&](int64_t row) {
    const float* vector = rows.first + row * rows.width;
    require(std::all_of(vector, vector + rows.width, [](float x) { return std::isfinite(x); }),
            "the vectors of the index are damaged: that of slot {} is not finite", row);
    const auto number = static_cast<Row>(row);
    parts_->graph->addPoint(&number, static_cast<hnswlib::labeltype>(row));
    const int64_t now = ++done;
    if (progress && now % kTold == 0 && std::this_thread::get_id() == mine) progress(now, rows.count);
  };
  if (rows.count > 0) link(0);  // the others find it there
  for_rows(1, rows.count, std::max(threads, 1), link);
  if (progress) progress(rows.count, rows.count);
}

VectorGraph::VectorGraph(const std::filesystem::path& file, const GraphFile& expected, const GraphOptions& options,
                         const VectorRows& rows)
    : parts_(std::make_unique<Parts>(rows)) {
  const std::string name = file.string();
  {
    const MappedFile mapped(file);
    const std::string_view bytes(reinterpret_cast<const char*>(mapped.bytes().data()), mapped.bytes().size());
    require(static_cast<int64_t>(bytes.size()) == expected.bytes,
            "{}: the file is damaged: it has {} bytes, expected {}", name, bytes.size(), expected.bytes);
    require(sha256_bytes(bytes) == expected.sha256, "{}: the file is damaged: its SHA-256 is not the recorded one",
            name);
    require(expected.rows >= 0 && expected.rows <= rows.count && bytes.size() >= kHeader &&
                bytes.substr(0, kHeader) == header_of(options, static_cast<size_t>(expected.rows), bytes),
            "{}: the file is damaged: it does not begin as a graph of {} vectors with {} links does", name,
            expected.rows, options.links);
  }
  parts_->graph = std::make_unique<Graph>(&parts_->space);
  Graph& graph = *parts_->graph;
  // What hnswlib leaves open, and its destructor takes for allocated where loadIndex() throws.
  graph.data_level0_memory_ = nullptr;
  graph.linkLists_ = nullptr;
  graph.visited_list_pool_ = nullptr;
  graph.cur_element_count = graph.num_deleted_ = 0;
  try {
    graph.loadIndex(name, &parts_->space);
  } catch (const std::exception& error) {
    graph.cur_element_count = 0;
    fail("{}: the graph cannot be read: {}", name, error.what());
  }
  require(links_lead_somewhere(graph), "{}: the file is damaged: a link of the graph leads nowhere", name);
}

VectorGraph::~VectorGraph() = default;

GraphFile VectorGraph::save(const std::filesystem::path& file) const {
  Graph& graph = *parts_->graph;
  graph.saveIndex(file.string());
  size_t bytes = kHeader + graph.cur_element_count * (graph.size_data_per_element_ + sizeof(unsigned));
  for (size_t row = 0; row < graph.cur_element_count; ++row) {
    bytes += static_cast<size_t>(graph.element_levels_[row]) * graph.size_links_per_element_;
  }
  std::error_code error;
  const auto written = std::filesystem::file_size(file, error);
  require(!error && written == bytes, "{}: the file cannot be written: of {} bytes {} are there", file.string(), bytes,
          error ? 0 : written);
  return {rows(), static_cast<int64_t>(bytes), sha256_file(file)};
}

int64_t VectorGraph::rows() const { return static_cast<int64_t>(parts_->graph->cur_element_count); }

void VectorGraph::forget(int64_t row) {
  require(row >= 0 && row < rows(), "the graph has {} vectors, and none of row {}", rows(), row);
  parts_->graph->markDelete(static_cast<hnswlib::labeltype>(row));
}

std::vector<std::pair<int64_t, float>> VectorGraph::nearest(const float* query, int64_t count,
                                                            int64_t candidates) const {
  parts_->space.distance().query = query;
  parts_->graph->setEf(static_cast<size_t>(std::max(count, candidates)));
  auto found = parts_->graph->searchKnn(&kQuery, static_cast<size_t>(count));
  std::vector<std::pair<int64_t, float>> best(found.size());
  for (size_t i = best.size(); i-- > 0; found.pop()) {
    best[i] = {static_cast<int64_t>(found.top().second), 1 - found.top().first};
  }
  return best;
}

}  // namespace cepe
