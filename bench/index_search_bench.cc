// How long an index searches for a question, one at a time, and how much of the exact first ten its graph finds.
//
//   build/bench/index_search_bench INDEX QUESTIONS [COUNT [DEVICE]]
//
// QUESTIONS: a file that cepe eval qa reads; its first COUNT questions (300) are asked, after 20 that nobody times.
// DEVICE embeds them (cpu). Prints median and 95th percentile in milliseconds of the first ten by words (BM25), by the
// graph and by all vectors, and the graph's recall@10: the mean share of the exact ten that it finds. Questions are
// embedded before: what that takes stands in a line of its own.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>

#include "base/error.h"
#include "base/report.h"
#include "retrieval/bert_encoder.h"
#include "retrieval/index_reader.h"
#include "tasks/questions/question_files.h"

namespace {

using cepe::seconds_now;
constexpr int64_t kFirst = 10, kWarm = 20;

// Runs `ask` for each question and prints a line of what the later ones took.
void time_each(const char* what, size_t questions, const std::function<void(size_t)>& ask) {
  std::vector<double> took;
  for (size_t i = 0; i < questions; ++i) {
    const double start = seconds_now();
    ask(i);
    if (i >= kWarm) took.push_back(1000 * (seconds_now() - start));
  }
  std::sort(took.begin(), took.end());
  std::printf("%-28s median %8.3f ms   95th percentile %8.3f ms   largest %8.3f ms\n", what, took[took.size() / 2],
              took[took.size() * 95 / 100], took.back());
}

std::vector<std::vector<int64_t>> slots(const std::vector<std::vector<cepe::Hit>>& found) {
  std::vector<std::vector<int64_t>> lists;
  for (const std::vector<cepe::Hit>& hits : found) {
    std::vector<int64_t>& list = lists.emplace_back();
    for (const cepe::Hit& hit : hits) list.push_back(hit.slot);
  }
  return lists;
}

double recall(const std::vector<std::vector<int64_t>>& found, const std::vector<std::vector<int64_t>>& exact) {
  int64_t common = 0, all = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    all += std::ssize(exact[i]);
    for (const int64_t slot : exact[i]) common += std::count(found[i].begin(), found[i].end(), slot);
  }
  return static_cast<double>(common) / static_cast<double>(std::max<int64_t>(all, 1));
}

void run(int argc, char** argv) {
  cepe::require(argc >= 3 && argc <= 5, "expected INDEX QUESTIONS [COUNT [DEVICE]], found {} arguments", argc - 1);
  const size_t count = argc > 3 ? static_cast<size_t>(std::atoll(argv[3])) : 300;
  std::vector<std::string> questions;
  for (const cepe::OpenQuestion& question : cepe::read_questions(argv[2]).questions) {
    if (questions.size() < count + kWarm) questions.push_back(question.question);
  }
  cepe::require(questions.size() > kWarm, "{}: expected more than {} questions, found {}", argv[2], kWarm,
                questions.size());
  double start = seconds_now();
  const cepe::IndexReader reader(argv[1], cepe::VectorSearch::graph);
  std::printf("%s: %lld passages, opened in %.2f s; %zu questions\n", argv[1],
              static_cast<long long>(reader.passages()), seconds_now() - start, questions.size() - kWarm);
  time_each("BM25, first 10", questions.size(), [&](size_t i) { (void)reader.search_words(questions[i], kFirst); });
  if (reader.description().width == 0) return;

  const cepe::BertEncoder encoder(reader.description().encoder, at::Device(argc > 4 ? argv[4] : "cpu"));
  std::vector<at::Tensor> vectors;
  time_each("embedding the question", questions.size(),
            [&](size_t i) { vectors.push_back(encoder.embed({questions[i]})); });
  std::vector<std::vector<cepe::Hit>> by_graph, exact;
  const auto ask = [&](const cepe::IndexReader& index, std::vector<std::vector<cepe::Hit>>& into) {
    return [&index, &into, &vectors](size_t i) { into.push_back(index.search_vectors(vectors[i], kFirst)[0]); };
  };
  if (reader.description().graph) time_each("vectors by the graph", questions.size(), ask(reader, by_graph));
  const cepe::IndexReader all(argv[1], cepe::VectorSearch::exact);
  time_each("all vectors", questions.size(), ask(all, exact));
  if (reader.description().graph) std::printf("recall@10 of the graph: %.4f\n", recall(slots(by_graph), slots(exact)));
  std::printf("peak memory, mapped vectors included: %s\n", cepe::format_bytes(cepe::peak_resident_bytes()).c_str());
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const c10::InferenceMode no_gradients;
    run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "index_search_bench: %s\n", error.what());
    return 1;
  }
}
