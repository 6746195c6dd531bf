// Runs of in-context learning beside direct computations; a tiny golden model.
#include "eval/icl/icl_run.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/error_of.h"
#include "base/file.h"
#include "base/temporary_directory.h"
#include "eval/icl/continuation_scores.h"

namespace cepe {
namespace {

using nlohmann::json;
using testing::HasSubstr;

class IclRunTest : public testing::Test {
 protected:
  IclRunTest() {
    at::set_num_threads(1);
    OpenOptions open;
    open.dtype = at::kDouble;
    open.window = 4096;
    opened_ = open_model(std::filesystem::path(CEPE_TEST_DATA) / "generate/published", open);
    options_.decoder_shots = {1};
    options_.encoder_shots = {0, 3};
    options_.seeds = {42, 43};
    options_.limit = 3;
  }
  IclSource source(const std::string& name = "moods") const {
    LabelledTextSet set{.name = name, .task = label_task_from_name("sst2", "--task")};
    for (int i = 0; i < 20; ++i) {
      const bool good = i % 2 == 1;
      const LabelledText one{fmt::format("film {} is {}", i, good ? "fine" : "dull"), good ? "positive" : "negative"};
      (i < 5 ? set.asked : set.shown).push_back(one);
    }
    return {std::move(set), options_, [](const std::string&) { return true; }};
  }
  IclRun run(const std::string& name, IclCalibration calibration = IclCalibration::empty,
             const std::vector<IclSource>& sources = {}) {
    IclRunOptions options{.directory = directory_ / name, .configuration = {{"a", 1}}, .calibration = calibration};
    options.batch = batch_;
    return run_icl(opened_, sources.empty() ? std::vector<IclSource>{source()} : sources, options);
  }
  std::string file(const std::string& name) const { return (directory_ / name / "samples.jsonl").string(); }
  std::vector<json> records(const std::string& name) const {
    std::vector<json> all;
    const std::string lines = read_file(file(name));
    for (size_t begin = 0; begin < lines.size(); begin = lines.find('\n', begin) + 1) {
      all.push_back(json::parse(lines.substr(begin, lines.find('\n', begin) - begin)));
    }
    return all;
  }
  // log p of " negative" and " positive" after a text, from all logits, with documents of at most a chunk in the
  // encoder.
  std::vector<double> direct(const std::string& text, const std::vector<std::string>& documents) const {
    std::vector<at::Tensor> states;
    for (const std::string& document : documents) {
      const std::vector<TokenId> tokens = opened_.tokenizer->encode(document);
      for (size_t first = 0; first < tokens.size(); first += 32) {  // the tiny encoder's chunk
        const size_t count = std::min<size_t>(32, tokens.size() - first);
        states.push_back(encode(opened_.model, {ids({tokens.begin() + static_cast<std::ptrdiff_t>(first),
                                                     tokens.begin() + static_cast<std::ptrdiff_t>(first + count)})
                                                    .unsqueeze(0),
                                                {}})
                             .states_BSE);
      }
    }
    const Latents latents = states.empty() ? Latents{} : Latents{at::cat(states, 1), {}};
    std::vector<double> scores;
    for (const char* label : {" negative", " positive"}) {
      std::vector<TokenId> tokens = opened_.tokenizer->encode(text);
      const std::vector<TokenId> more = opened_.tokenizer->encode(label);
      const size_t first = tokens.size();
      tokens.insert(tokens.end(), more.begin(), more.end());
      DecodeInput input{ids(tokens)};
      input.context = states.empty() ? nullptr : &latents;
      const at::Tensor log_p = logits(opened_.model, decode(opened_.model, input))[0].log_softmax(-1);
      double sum = 0;
      for (size_t i = first; i < tokens.size(); ++i) {
        sum += log_p[static_cast<int64_t>(i) - 1][tokens[i]].item<double>();
      }
      scores.push_back(sum);
    }
    return scores;
  }
  static at::Tensor ids(const std::vector<TokenId>& tokens) {
    return at::tensor(std::vector<int64_t>(tokens.begin(), tokens.end())).unsqueeze(0);
  }

  TemporaryDirectory directory_;
  OpenedModel opened_;
  IclOptions options_;
  int64_t batch_ = 1;
};

// With so many prompts at once.
class IclRunTogether : public IclRunTest, public testing::WithParamInterface<int64_t> {
 protected:
  IclRunTogether() { batch_ = GetParam(); }
};
INSTANTIATE_TEST_SUITE_P(Prompts, IclRunTogether, testing::Values(1, 5, 100));

TEST_P(IclRunTogether, RecordsAreTheDirectComputation) {
  const at::NoGradGuard no_gradients;
  const IclRun done = run("run");
  const std::vector<json> all = records("run");
  ASSERT_EQ(all.size(), 3u * (4u + 3u)) << "no demonstrations once, three settings with each seed";
  ASSERT_EQ(done.records.size(), all.size());
  // What a label is compared with: itself after the begin token, which is token 1 here.
  std::vector<double> alone;
  for (const char* label : {" negative", " positive"}) {
    alone.push_back(ContinuationScorer(opened_.model)
                        .scores(std::vector<TokenId>{1}, {opened_.tokenizer->encode(label)}, nullptr)[0]);
  }
  const IclSource asked = source();
  size_t at = 0;
  for (int64_t s = 0; s < asked.scenes(); ++s) {
    const IclScene scene = asked.scene(s);
    for (const IclPrompt& prompt : scene.prompts) {
      const json& record = all[at];
      const std::string text = prompt.decoder_text + "Sentence: " + scene.text + "\nSentiment:";
      const std::vector<double> expected = direct(text, prompt.encoder_texts);
      ASSERT_EQ(record["log_likelihoods"].size(), 2u);
      for (size_t i = 0; i < 2; ++i) EXPECT_NEAR(record["log_likelihoods"][i], expected[i], 1e-8);
      const bool positive = expected[1] - alone[1] > expected[0] - alone[0];
      EXPECT_EQ(record["prediction"], positive ? "positive" : "negative");
      EXPECT_EQ(record["predictions"]["calibrated"], record["prediction"]);
      EXPECT_EQ(record["predictions"]["likelihood"], expected[1] > expected[0] ? "positive" : "negative");
      EXPECT_EQ(record["scores"]["calibrated"], record["prediction"] == scene.label ? 1 : 0);
      EXPECT_EQ(record["references"], json::array({scene.label}));
      EXPECT_EQ(record["id"], scene.id + "/" + prompt.setting.name());
      EXPECT_EQ(record["tags"]["encoder"], std::to_string(prompt.encoder_texts.size()));
      EXPECT_EQ(record["sources"].size(), prompt.encoder_texts.size());
      EXPECT_EQ(record["context_tokens"] > 0, prompt.setting.encoder > 0);
      EXPECT_EQ(done.records[at].chosen.at("calibrated"), record["prediction"].get<std::string>());
      ++at;
    }
  }
}

TEST_P(IclRunTogether, ContentFreeCalibrationReadsTheSameDemonstrations) {
  const at::NoGradGuard no_gradients;
  run("run", IclCalibration::content_free);
  const std::vector<json> all = records("run");
  const IclScene scene = source().scene(0);
  for (size_t i = 0; i < scene.prompts.size(); ++i) {
    const IclPrompt& prompt = scene.prompts[i];
    const std::vector<double> expected =
        direct(prompt.decoder_text + "Sentence: N/A\nSentiment:", prompt.encoder_texts);
    for (size_t label = 0; label < 2; ++label) EXPECT_NEAR(all[i]["calibration"][label], expected[label], 1e-8);
  }
  run("domain", IclCalibration::domain);
  const std::vector<double> domain = direct("Sentiment:", {});
  for (const json& record : records("domain")) {
    const json& scores = record["log_likelihoods"];
    const bool positive = scores[1].get<double>() - domain[1] > scores[0].get<double>() - domain[0];
    EXPECT_EQ(record["prediction"], positive ? "positive" : "negative");
  }
  run("none", IclCalibration::none);
  for (const json& record : records("none")) {
    EXPECT_FALSE(record["predictions"].contains("calibrated"));
    EXPECT_EQ(record["prediction"], record["predictions"]["likelihood"]);
  }
}

TEST_P(IclRunTogether, AnInterruptedRunGoesOnToTheSameFile) {
  const std::vector<IclSource> two = {source("moods"), source("others")};
  ASSERT_EQ(run("whole", IclCalibration::empty, two).resumed, 0);
  const std::string whole = read_file(file("whole"));
  const auto lines = std::count(whole.begin(), whole.end(), '\n');
  for (const int64_t kept :
       {int64_t{0}, int64_t{1}, int64_t{4}, int64_t{6}, lines / 2 + 1, lines - 1, int64_t{lines}}) {
    std::filesystem::copy(directory_ / "whole", directory_ / fmt::format("cut {}", kept));
    size_t end = 0;
    for (int64_t i = 0; i < kept; ++i) end = whole.find('\n', end) + 1;
    const std::string name = fmt::format("cut {}", kept);
    write_file(file(name), whole.substr(0, end) + (kept < lines ? whole.substr(end, 5) : ""));
    EXPECT_EQ(run(name, IclCalibration::empty, two).resumed, kept);
    EXPECT_EQ(read_file(file(name)), whole) << "after " << kept;
  }
}

TEST_F(IclRunTest, RefusesOtherRunsAndOtherTexts) {
  run("run");
  const std::string before = read_file(file("run"));
  options_.limit = 2;
  EXPECT_THAT(error_of([&] { run("run"); }), HasSubstr("expected at most"));
  options_.limit = 3;
  options_.encoder_shots = {0, 4};
  const std::string error = error_of([&] { run("run"); });
  EXPECT_THAT(error, HasSubstr("samples.jsonl:20: expected the record of"));
  EXPECT_THAT(error, HasSubstr("the data has changed"));
  const IclRunOptions other{.directory = directory_ / "run", .configuration = {{"a", 2}}};
  const std::vector<IclSource> sources = {source()};
  EXPECT_THAT(error_of([&] { run_icl(opened_, sources, other); }), HasSubstr("a = 1 was begun here"));
  EXPECT_EQ(read_file(file("run")), before);
  EXPECT_THAT(error_of([] { icl_calibration_from_name("zero", "--calibration"); }),
              HasSubstr("--calibration: expected none, empty, domain or content-free, found \"zero\""));
}

}  // namespace
}  // namespace cepe
