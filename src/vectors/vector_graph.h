// The nearest of many vectors without a look at each: a graph of links between near vectors (HNSW: Malkov & Yashunin
// 2018, arXiv 1603.09320), by hnswlib. The graph holds links alone; the vectors stay where they are, in a mapped file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace cepe {

// Row r is at first + r * width. The memory must outlive whoever is given the rows.
struct VectorRows {
  const float* first = nullptr;
  int64_t width = 0, count = 0;
};

struct GraphOptions {
  int64_t links = 16;        // of a vector, 2 to 256; on the lowest level twice as many (the paper's M)
  int64_t candidates = 200;  // that are looked at for them, 1 to 10,000 (the paper's efConstruction)
};
// Error where a number is out of its range; `where` begins the sentence.
void check_graph_options(const GraphOptions& options, const std::string& where);

// What is known of a graph's file beside it.
struct GraphFile {
  int64_t rows = 0, bytes = 0;
  std::string sha256;
};

// One thread at a time.
class VectorGraph {
 public:
  // Links all rows. The order in which several threads come to the rows is their affair: with one thread the graph is
  // the same every time. progress: rows done and all, from one thread; may be empty. Error where a row is not finite.
  VectorGraph(const VectorRows& rows, const GraphOptions& options, int threads,
              const std::function<void(int64_t done, int64_t total)>& progress);
  // A graph that was saved. Error where the file is not the one that was saved, or its links lead nowhere. There may be
  // more rows by now than it links.
  VectorGraph(const std::filesystem::path& file, const GraphFile& expected, const GraphOptions& options,
              const VectorRows& rows);
  ~VectorGraph();
  VectorGraph(const VectorGraph&) = delete;
  VectorGraph& operator=(const VectorGraph&) = delete;

  // Writes the file; it is not synced to disk. Error where it cannot be written whole.
  GraphFile save(const std::filesystem::path& file) const;

  int64_t rows() const;
  // The row is not found any more. Error where there is no such row.
  void forget(int64_t row);
  // Rows with the highest inner products with the query (rows().width numbers), and these: best first, nearly always
  // the highest of all. candidates: so many are followed at once, at least `count`; more find more (the paper's ef).
  std::vector<std::pair<int64_t, float>> nearest(const float* query, int64_t count, int64_t candidates) const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace cepe
