// The graph over vectors (HNSW) beside brute force: what it costs to build, and how much of the first ten it finds.
//
//   build/bench/vector_graph_bench [VECTORS [WIDTH [THREADS [QUERIES]]]]
//   build/bench/vector_graph_bench INDEX/vectors-1.f32 [THREADS [QUERIES]]
//
// The defaults: 20,000 drawn vectors of 384 numbers, all threads, 200 queries. Drawn vectors are of length 1: a point
// of 1,000 clusters in 32 dimensions, mapped to WIDTH, with a tenth of noise; queries are further draws. Of an index's
// vectors the last QUERIES are the queries and stand in no graph.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/file.h"
#include "base/report.h"
#include "retrieval/index_description.h"
#include "vectors/vector_graph.h"

namespace {

using cepe::seconds_now;

constexpr int64_t kFirst = 10;

struct Asked {
  std::string file;
  int64_t vectors = 20'000, width = 384, threads = at::get_num_threads(), queries = 200;
};

Asked parse(int argc, char** argv) {
  Asked asked;
  const bool file = argc > 1 && std::atoll(argv[1]) == 0;
  if (file) asked.file = argv[1];
  int64_t* const drawn[] = {&asked.vectors, &asked.width, &asked.threads, &asked.queries};
  int64_t* const stored[] = {&asked.threads, &asked.queries};
  cepe::require(argc <= (file ? 4 : 5), "expected at most {} arguments, found {}", file ? 3 : 4, argc - 1);
  for (int i = file ? 2 : 1; i < argc; ++i) *(file ? stored[i - 2] : drawn[i - 1]) = std::atoll(argv[i]);
  cepe::require(asked.vectors > kFirst && asked.width > 0 && asked.threads > 0 && asked.queries > 0,
                "expected VECTORS above {}, WIDTH, THREADS and QUERIES above 0", kFirst);
  return asked;
}

// Rows of length 1: (count, width).
at::Tensor draw(int64_t count, int64_t width) {
  at::manual_seed(1);
  const at::Tensor centres = at::randn({1000, 32}), map = at::randn({32, width});
  const at::Tensor all = at::empty({count, width});
  for (int64_t first = 0; first < count; first += 50'000) {
    const int64_t some = std::min<int64_t>(50'000, count - first);
    const at::Tensor points = centres.index_select(0, at::randint(1000, {some})) + at::randn({some, 32}) * 0.7;
    const at::Tensor rows = at::matmul(points, map) + at::randn({some, width}) * 0.8;
    all.narrow(0, first, some).copy_(rows / rows.norm(2, {1}, true));
  }
  return all;
}

// The first ten of each query among all rows, looked up one query at a time.
at::Tensor brute_force(const at::Tensor& rows_ND, const at::Tensor& queries_QD) {
  std::vector<at::Tensor> best;
  const double start = seconds_now();
  for (int64_t q = 0; q < queries_QD.size(0); ++q) {
    best.push_back(std::get<1>(at::matmul(rows_ND, queries_QD[q]).topk(kFirst)));
  }
  std::printf("brute force: %.2f ms a query\n", 1000 * (seconds_now() - start) / static_cast<double>(best.size()));
  return at::stack(best);
}

void search(const cepe::VectorGraph& graph, const at::Tensor& queries_QD, const at::Tensor& best_Q10) {
  std::printf("%10s %14s %10s\n", "candidates", "ms a query", "recall@10");
  for (const int64_t candidates : {32, 64, 128, 200, 400, 800}) {
    int64_t found = 0;
    double seconds = 0;
    for (int64_t q = 0; q < queries_QD.size(0); ++q) {
      const double start = seconds_now();
      const auto nearest = graph.nearest(queries_QD[q].const_data_ptr<float>(), kFirst, candidates);
      seconds += seconds_now() - start;
      for (const auto& [row, score] : nearest) found += best_Q10[q].eq(row).any().item<bool>();
    }
    const auto queries = static_cast<double>(queries_QD.size(0));
    std::printf("%10lld %14.3f %10.4f\n", static_cast<long long>(candidates), 1000 * seconds / queries,
                static_cast<double>(found) / (kFirst * queries));
  }
}

void run(const Asked& asked) {
  std::optional<cepe::MappedFile> mapped;
  at::Tensor all;
  if (asked.file.empty()) {
    all = draw(asked.vectors + asked.queries, asked.width);
  } else {
    mapped.emplace(asked.file);
    auto* bytes = const_cast<std::byte*>(mapped->bytes().data());
    const auto width = *reinterpret_cast<const int64_t*>(bytes + 8);
    cepe::check_vectors(*mapped, width, 0);
    const auto rows = (static_cast<int64_t>(mapped->bytes().size()) - cepe::kVectorHeader) / (width * 4);
    all = at::from_blob(bytes + cepe::kVectorHeader, {rows, width}, at::kFloat);
  }
  const int64_t count = all.size(0) - asked.queries;
  cepe::require(count > kFirst, "expected more than {} vectors beside the queries, found {}", kFirst, count);
  const at::Tensor rows_ND = all.narrow(0, 0, count), queries_QD = all.narrow(0, count, asked.queries);
  std::printf("%lld vectors of %lld, %lld threads, %lld queries\n", static_cast<long long>(count),
              static_cast<long long>(all.size(1)), static_cast<long long>(asked.threads),
              static_cast<long long>(asked.queries));
  const at::Tensor best = brute_force(rows_ND, queries_QD);

  const cepe::VectorRows rows{rows_ND.const_data_ptr<float>(), all.size(1), count};
  cepe::reset_peak_resident_bytes();
  double start = seconds_now();
  const std::filesystem::path file = std::filesystem::temp_directory_path() / "cepe_vector_graph_bench";
  cepe::GraphFile saved;
  {
    const cepe::VectorGraph graph(rows, {}, static_cast<int>(asked.threads), nullptr);
    std::printf("built in %.1f s; the process with all vectors: %s\n", seconds_now() - start,
                cepe::format_bytes(cepe::peak_resident_bytes()).c_str());
    saved = graph.save(file);
  }
  start = seconds_now();
  const cepe::VectorGraph graph(file, saved, {}, rows);
  std::printf("file: %s, read in %.2f s\n", cepe::format_bytes(static_cast<uint64_t>(saved.bytes)).c_str(),
              seconds_now() - start);
  std::filesystem::remove(file);
  search(graph, queries_QD, best);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const c10::InferenceMode no_gradients;
    run(parse(argc, argv));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "vector_graph_bench: %s\n", error.what());
    return 1;
  }
}
