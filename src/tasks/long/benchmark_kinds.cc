#include "tasks/long/benchmark_kinds.h"

#include <iterator>

#include "base/error.h"

namespace cepe {
namespace {

struct DataSet {
  const char* name;
  LongKind kind;
};

// Its eval.py takes the first line of three of them, and all of the others' answers.
constexpr DataSet kLongBench[] = {{"narrativeqa", {LongMetric::f1, 128, false}},
                                  {"qasper", {LongMetric::f1, 128, false}},
                                  {"multifieldqa_en", {LongMetric::f1, 64, false}},
                                  {"hotpotqa", {LongMetric::f1, 32, false}},
                                  {"2wikimqa", {LongMetric::f1, 32, false}},
                                  {"musique", {LongMetric::f1, 32, false}},
                                  {"gov_report", {LongMetric::rouge, 512, false}},
                                  {"qmsum", {LongMetric::rouge, 512, false}},
                                  {"multi_news", {LongMetric::rouge, 512, false}},
                                  {"trec", {LongMetric::classification, 64}},
                                  {"triviaqa", {LongMetric::f1, 32}},
                                  {"samsum", {LongMetric::rouge, 128, true}},
                                  {"passage_count", {LongMetric::count, 32, false}},
                                  {"passage_retrieval_en", {LongMetric::count, 32, false}},
                                  {"lcc", {LongMetric::similarity, 64, false}},
                                  {"repobench-p", {LongMetric::similarity, 64, false}}};
constexpr const char* kChinese[] = {"multifieldqa_zh", "dureader", "vcsum", "lsht", "passage_retrieval_zh"};

constexpr DataSet kZeroScrolls[] = {
    {"gov_report", {LongMetric::rouge, 1024, false}}, {"summ_screen_fd", {LongMetric::rouge, 512, false}},
    {"qmsum", {LongMetric::rouge, 512, false}},       {"squality", {LongMetric::rouge, 512, false}},
    {"qasper", {LongMetric::f1, 128, false}},         {"narrative_qa", {LongMetric::f1, 64, false}},
    {"musique", {LongMetric::f1, 64, false}},         {"quality", {LongMetric::choice, 16}}};

}  // namespace

LongKind longbench_kind(const std::string& name, const std::string& where) {
  // LongBench-E has the same data sets in files named so.
  const std::string plain = name.ends_with("_e") ? name.substr(0, name.size() - 2) : name;
  for (const DataSet& known : kLongBench) {
    if (plain == known.name) return known.kind;
  }
  for (const char* chinese : kChinese) {
    require(plain != chinese, "{}: the scores of {} need a segmenter of Chinese, which cepe has not", where, name);
  }
  fail("{}: expected a data set of LongBench, found \"{}\"", where, name);
}

std::string longbench_task(const std::string& name) {
  if (name.starts_with("lcc")) return "Write the next line of the code.";
  if (name.starts_with("passage_count")) return "How many different paragraphs are there?";
  return "Write a summary of the text.";
}

LongKind zeroscrolls_kind(const std::string& name, const std::string& where) {
  for (const char* sorted : {"space_digest", "book_sum_sort"}) {
    require(!name.starts_with(sorted), "{}: the score of {} is not computed", where, sorted);
  }
  for (const DataSet& known : kZeroScrolls) {
    if (name == known.name || name.starts_with(std::string(known.name) + "_") ||
        name.starts_with(std::string(known.name) + "/") || name.starts_with(std::string(known.name) + "-"))
      return known.kind;
  }
  fail("{}: expected the file or its folder to be named as a data set of ZeroSCROLLS, found \"{}\"", where, name);
}

}  // namespace cepe
