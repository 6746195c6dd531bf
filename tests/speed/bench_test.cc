// What cepe bench counts against sums worked out by hand, what it accepts, and its records of a tiny model.
#include "speed/bench.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error_of.h"
#include "model/checkpoint/checkpoint.h"
#include "speed/shapes.h"

namespace cepe {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Form = CrossAttentionForm;

Cepe open_fixture(const std::string& name) {
  at::set_num_threads(1);  // such small tensors only wait for threads
  return open_model(std::filesystem::path(CEPE_TEST_DATA) / name).model;
}

BenchCase one_case(const std::string& test, int64_t batch = 1, bool shared = false, Form form = Form::automatic) {
  return {parse_bench_test(test), batch, shared, form};
}

TEST(BenchTest, Spellings) {
  EXPECT_EQ(parse_bench_test("enc4096").name(), "enc4096");
  EXPECT_EQ(parse_bench_test("pp512@c32768").name(), "pp512@c32768");
  EXPECT_EQ(parse_bench_test("pp512").name(), "pp512@c0");
  EXPECT_EQ(parse_bench_test("score4096@c126976").name(), "score4096@c126976");
  const BenchTest test = parse_bench_test("tg32@c1048576");
  EXPECT_EQ(test.kind, BenchTest::Kind::generate);
  EXPECT_EQ(test.tokens, 32);
  EXPECT_EQ(test.context, 1048576);
  for (const char* wrong :
       {"", "enc", "enc0", "enc12@c3", "pp", "pp0", "pp@c5", "pp5@", "pp5@c", "pp5@c-1", "pp5@c1 ", " pp5", "tg5x",
        "tg-5", "PP5", "score", "pp5@d4", "tg99999999999999999999", "tg1@c99999999999999999999"}) {
    EXPECT_THAT(error_of([&] { parse_bench_test(wrong); }), HasSubstr("expected enc<S>, pp<T>@c<S>")) << wrong;
  }
}

TEST(BenchSweep, LeavesOutWhatMakesNoDifference) {
  BenchSweep sweep;
  for (const char* test : {"enc8", "pp4", "tg2@c8"}) sweep.tests.push_back(parse_bench_test(test));
  sweep.batches = {1, 4};
  sweep.shared = {true, false};
  sweep.forms = {Form::absorbed, Form::materialised};
  std::vector<std::string> found;
  for (const BenchCase& one : bench_cases(sweep)) {
    found.push_back(
        fmt::format("{} x{} {} {}", one.test.name(), one.batch, one.contexts(), cross_attention_form_name(one.form)));
  }
  EXPECT_THAT(
      found, ElementsAre("enc8 x1 1 automatic", "enc8 x4 4 automatic", "pp4@c0 x1 0 automatic", "pp4@c0 x4 0 automatic",
                         "tg2@c8 x1 1 absorbed", "tg2@c8 x1 1 materialised", "tg2@c8 x4 1 absorbed",
                         "tg2@c8 x4 1 materialised", "tg2@c8 x4 4 absorbed", "tg2@c8 x4 4 materialised"));
}

TEST(BenchSweep, FormsHaveNames) {}

TEST(BenchCheck, SaysWhatAModelCannotDo) {
  const CepeConfig cepe = shape_config("llama-2-7b+mlm-large"), plain = shape_config("llama-2-7b");
  const auto said = [](const CepeConfig& config, const std::string& test, BenchOptions options = {}) {
    return error_of([&] { check_bench_case(config, one_case(test), options); });
  };
  EXPECT_EQ(said(cepe, "score4096@c126976"), "");
  EXPECT_EQ(said(cepe, "enc100"), "");
  EXPECT_EQ(said(plain, "pp4096"), "");
  EXPECT_EQ(said(cepe, "tg3968@c8"), "");
  EXPECT_THAT(said(plain, "pp16@c256"), HasSubstr("no encoder"));
  EXPECT_THAT(said(plain, "enc256"), HasSubstr("no encoder"));
  EXPECT_THAT(said(cepe, "pp4097@c256"), HasSubstr("4097 tokens exceed the decoder's window of 4096"));
  EXPECT_THAT(said(cepe, "tg3969"), HasSubstr("3969 tokens after a window of 128 exceed the decoder's window of 4096"));
  EXPECT_THAT(said(cepe, "tg1", {.window_tokens = 0}), HasSubstr("window-tokens: expected 1"));
  EXPECT_THAT(said(cepe, "pp1", {.repetitions = 0}), HasSubstr("repetitions: expected 1"));
  EXPECT_THAT(said(cepe, "pp1", {.warmup = -1}), HasSubstr("warmup: expected 0"));
  EXPECT_THAT(error_of([&] { check_bench_case(cepe, one_case("pp1", 0), {}); }), HasSubstr("batch: expected 1"));
}

// cepe-gqa-last2: D 64, F 96, 3 layers, H 4, G 2, K 16, V 128, cross-attention in the last 2; encoder E 32, F 64, 2
// layers.
TEST(CountWork, PrefillByHand) {
  const CepeConfig config = open_fixture("cepe-gqa-last2").config;
  const double products = 2 * (2 * 10 * (8192 + 4096 + 18432))  // two layers: 10 tokens; q and o, k and v, feed-forward
                          + 2 * (10 * 4096 + 8192 + 18432);     // the last: k and v for 10, the rest for 1
  const double self = 4 * 64 * (55 + 55 + 10);                  // pairs under the causal mask
  const double cross = 10 * 16384 + 20 * 4096 + 10 * 4 * 20 * 64  // q and o of 10 rows, k and v of 20 tokens, attention
                       + 1 * 16384 + 20 * 4096 + 1 * 4 * 20 * 64;  // the last layer: 1 row
  const double head = 2 * 128 * 64;
  EXPECT_EQ(products + self + cross + head, 1811456);
  EXPECT_EQ(count_work(config, one_case("pp10@c20", 1, false, Form::materialised), {}, 4).operations, 1811456);
  EXPECT_EQ(count_work(config, one_case("pp10"), {}, 4).operations, products + self + head);
}

TEST(CountWork, WritingByHand) {
  const CepeConfig config = open_fixture("cepe-gqa-last2").config;
  const BenchOptions options{.window_tokens = 4};
  const double products = 3 * (3 * 2 * (8192 + 4096 + 18432)), self = 3 * (3 * 4 * 64 * 5);
  const double cross = 2 * (3 * (16384 + 4 * 64 * 32 + 4 * 20 * 4 * 32)), head = 3 * 2 * 128 * 64;
  const Work separate = count_work(config, one_case("tg1@c20", 3, false, Form::absorbed), options, 4);
  EXPECT_EQ(separate.operations, products + self + cross + head);
  const double weights = 3 * 30720 + 2 * (8192 + 2 * 32 * 32) + 128 * 64, cache = 3 * (3 * 5 * 2 * 2 * 16);
  EXPECT_EQ(separate.bytes, 4 * (weights + cache + 2 * (3 * 20 * 32)));
  const Work shared = count_work(config, one_case("tg1@c20", 3, true, Form::absorbed), options, 4);
  EXPECT_EQ(shared.operations, separate.operations);
  EXPECT_EQ(shared.bytes, 4 * (weights + cache + 2 * (1 * 20 * 32)));
  // A second token: the same with one more key.
  const Work two = count_work(config, one_case("tg2@c20", 3, true, Form::absorbed), options, 4);
  EXPECT_EQ(two.operations, 2 * shared.operations + 3 * 3 * 4 * 64);
  EXPECT_EQ(two.bytes, 2 * shared.bytes + 4 * 3 * (3 * 2 * 2 * 16));
}

TEST(CountWork, EncodingByHand) {
  CepeConfig config = open_fixture("cepe-gqa-last2").config;
  config.chunk_length = 8;
  // Two whole chunks and one of 4 tokens, of each of 3 sequences.
  const double layer = 2 * 20 * (2 * 32 * 32 + 2 * 32 * 32 + 3 * 32 * 64) + 4 * 32 * (8 * 8 + 8 * 8 + 4 * 4);
  const Work work = count_work(config, one_case("enc20", 3), {}, 2);
  EXPECT_EQ(work.operations, 3 * 2 * layer);
  EXPECT_EQ(work.bytes, 2 * 2 * (4 * 32 * 32 + 3 * 32 * 64));
}

// The counts that were worked out for the published sizes: 514 TFLOP to score 131,072 tokens; to write one token over
// 127k, 15.9 GB of weights and 8.3 GB of latents are read (and 67 MB of keys and values).
TEST(CountWork, OfThePublishedSizes) {
  const CepeConfig config = shape_config("llama-2-7b+mlm-large");
  const Work score = count_work(config, one_case("score4096@c126976", 1, false, Form::materialised), {}, 2);
  EXPECT_NEAR(1e-12 * score.operations, 514, 1);
  const Work token = count_work(config, one_case("tg1@c126976"), {}, 2);
  EXPECT_NEAR(1e-9 * token.bytes, 15.9 + 8.32 + 0.067, 0.02);
  const double latents = 2.0 * 126976 * 1024 * 32;
  const Work shared = count_work(config, one_case("tg1@c126976", 16, true), {}, 2);
  const Work separate = count_work(config, one_case("tg1@c126976", 16, false), {}, 2);
  EXPECT_NEAR(separate.bytes - shared.bytes, 15 * latents, 1);
  EXPECT_EQ(form_taken(config, one_case("tg32@c4096"), {}, 2), Form::absorbed);
  EXPECT_EQ(form_taken(config, one_case("pp4096@c4096"), {}, 2), Form::materialised);
  EXPECT_EQ(form_taken(config, one_case("pp4096@c4096", 1, false, Form::absorbed), {}, 2), Form::absorbed);
}

TEST(RunBench, RecordsOfATinyModel) {
  const Cepe model = open_fixture("cepe-gqa-last2");
  const BenchOptions options{.window_tokens = 5, .repetitions = 3, .warmup = 1};
  BenchSweep sweep;
  for (const char* test : {"enc70", "enc64", "enc3", "pp7", "pp7@c70", "score9@c65", "score9", "tg4@c70", "tg4"}) {
    sweep.tests.push_back(parse_bench_test(test));
  }
  sweep.batches = {1, 2};
  sweep.shared = {true, false};
  sweep.forms = {Form::automatic, Form::absorbed, Form::materialised, Form::cached};
  for (const BenchCase& what : bench_cases(sweep)) {
    const BenchRecord record = run_bench(model, what, options);
    const std::string name = what.test.name();
    ASSERT_EQ(record.seconds.size(), 3u) << name;
    EXPECT_TRUE(record.failure.empty()) << name;
    std::vector<double> sorted = record.seconds;
    std::sort(sorted.begin(), sorted.end());
    EXPECT_GT(sorted[0], 0) << name;
    EXPECT_EQ(record.median_seconds, sorted[1]) << name;
    // A repetition of tg is 4 steps; the record's times are of one.
    const bool writes = what.test.kind == BenchTest::Kind::generate;
    const double repetition = record.median_seconds * (writes ? 4 : 1);
    const Work work = count_work(model.config, what, options, work_basis(model, options));
    EXPECT_NEAR(record.operations_per_second * repetition / work.operations, 1, 1e-9) << name;
    EXPECT_NEAR(record.bytes_per_second * repetition / work.bytes, 1, 1e-9) << name;
    const int64_t encoded = what.contexts() * what.test.context, decoded = what.batch * what.test.tokens;
    const bool encodes = what.test.kind == BenchTest::Kind::encode, scores = what.test.kind == BenchTest::Kind::score;
    const double tokens = (encodes || scores ? encoded : 0) + (encodes ? 0 : decoded);
    EXPECT_NEAR(record.tokens_per_second * repetition / tokens, 1, 1e-9) << name;
    const bool kept = record.form == "cached";
    EXPECT_EQ(record.context_token_bytes, what.test.context > 0 ? 4 * (32 + (kept ? 2 * 2 * 2 * 16 : 0)) : 0) << name;
    EXPECT_GT(record.peak_bytes, 1'000'000u) << name;
    EXPECT_EQ(record.form.empty(), encodes || what.test.context == 0) << name;
  }
}

TEST(RunBench, RefusesWhatTheModelCannotDo) {
  const Cepe plain = open_fixture("families/llama-mqa");
  EXPECT_THAT(error_of([&] { run_bench(plain, one_case("pp1@c5"), {}); }), HasSubstr("no encoder"));
  EXPECT_EQ(run_bench(plain, one_case("pp4"), {.repetitions = 2, .warmup = 0}).seconds.size(), 2u);
}

TEST(BenchCeilings, AreMeasured) {
  at::set_num_threads(2);
  const Ceilings ceilings = measure_ceilings(at::kCPU, at::kFloat);
  EXPECT_GT(ceilings.operations_per_second, 1e9);
  EXPECT_LT(ceilings.operations_per_second, 1e14);
  EXPECT_GT(ceilings.bytes_per_second, 1e8);
  EXPECT_LT(ceilings.bytes_per_second, 1e13);
}

BenchReport report() {
  BenchReport report;
  report.model = "a, \"b\"";
  report.device = "cpu, 2 threads";
  report.dtype = "float32";
  report.ceilings = {1e12, 1e11};
  BenchRecord record;
  record.what = one_case("tg4@c70", 16, true);
  record.form = "absorbed";
  record.seconds = {0.003, 0.002, 0.0025};
  record.median_seconds = 0.0025;
  record.tokens_per_second = 6400;
  record.operations_per_second = 1e11;
  record.bytes_per_second = 7.3e10;
  record.peak_bytes = 1'230'000'000;
  record.context_token_bytes = 2048;
  BenchRecord failed;
  failed.what = one_case("pp8@c70");
  failed.form = "materialised";
  failed.failure = "out of memory";
  report.records = {record, failed};
  return report;
}

TEST(BenchReport, Table) {
  const PeakShare peak = peak_share(report().records[0], report().ceilings);
  EXPECT_TRUE(peak.by_bytes);
  EXPECT_DOUBLE_EQ(peak.share, 0.73);
  const std::string table = bench_table(report());
  for (const char* part : {"tg4@c70", "16", "shared", "absorbed", "2.50", "6,400", "0.100", "73.0", "73 % bytes",
                           "1.23 GB", "2,048", "out of memory", "median of 5 after 1"}) {
    EXPECT_THAT(table, HasSubstr(part));
  }
}

TEST(BenchReport, CsvHasACellAColumn) {
  const std::string csv = bench_csv(report());
  EXPECT_THAT(
      csv, HasSubstr("\"a, \"\"b\"\"\",\"cpu, 2 threads\",float32,tg4@c70,16,1,absorbed,2.5,2,3,6400,0.1,73,0.73,bytes,"
                     "1,100,1230000000,2048,\n"));
  EXPECT_THAT(csv, HasSubstr("pp8@c70,1,1,materialised,,,,,,,,,1,100,,,out of memory\n"));
  const std::string header = csv.substr(0, csv.find('\n')), last = csv.substr(csv.rfind("pp8"));
  // The last line's first three cells hold commas in quotes; from the test on it is plain.
  EXPECT_EQ(std::count(header.begin(), header.end(), ',') - 3, std::count(last.begin(), last.end(), ','));
}

TEST(BenchReport, Json) {
  const nlohmann::json json = nlohmann::json::parse(bench_json(report()));
  EXPECT_EQ(json["records"].size(), 2u);
  EXPECT_EQ(json["records"][0]["test"], "tg4@c70");
  EXPECT_DOUBLE_EQ(json["records"][0]["ms"].get<double>(), 2.5);
  EXPECT_EQ(json["records"][0]["ms_repetitions"].size(), 3u);
  EXPECT_EQ(json["records"][0]["nearest_peak"], "bytes");
  EXPECT_EQ(json["records"][1]["failure"], "out of memory");
  EXPECT_DOUBLE_EQ(json["peak"]["bytes_per_second"].get<double>(), 1e11);
}

}  // namespace
}  // namespace cepe
