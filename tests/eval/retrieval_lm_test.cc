// Language modelling with retrieved passages beside direct computations; a tiny golden model.
#include "eval/retrieval_lm.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error_of.h"
#include "base/file.h"
#include "base/temporary_directory.h"
#include "model/checkpoint/checkpoint.h"
#include "model/replug.h"
#include "text/utf8.h"

namespace cepe {
namespace {

using testing::HasSubstr;

constexpr int64_t kQuery = 10, kDecoder = 24, kPassage = 8;

class RetrievalLm : public testing::Test {
 protected:
  RetrievalLm() {
    at::set_num_threads(1);
    OpenOptions open;
    open.dtype = at::kDouble;
    opened_ = open_model(std::filesystem::path(CEPE_TEST_DATA) / "generate/published", open);
    for (int d = 0; d < 3; ++d) {
      std::string text;
      for (int i = 0; i < 40; ++i) text += fmt::format("{} ", (i * i + 7 * d) % 97);
      const std::string name = fmt::format("d{}", d);
      documents_.push_back({name, "text", opened_.tokenizer->encode(text)});
    }
    options_.decoder_tokens = kDecoder;
    options_.query_tokens = kQuery;
    options_.passage_tokens = kPassage;
    options_.passages = {0, 2, 3};
    options_.windows = 4;
    options_.stride = 20;
    options_.directory = directory_ / "run";
    options_.configuration = {{"a", 1}};
  }
  // Passages that depend on the query; one of them holds what was asked for last.
  std::vector<RetrievedPassage> find(const std::string& query, int64_t count) const {
    std::vector<RetrievedPassage> found;
    for (int64_t i = 0; i < std::min<int64_t>(count, 5); ++i) {
      found.push_back({fmt::format("p{}", i), fmt::format("{} of {}", i, query.substr(query.size() - 3)),
                       1.0 / static_cast<double>(i + 1)});
    }
    return found;
  }
  RetrievalLmRun score() {
    return score_with_retrieval(
        opened_.model, *opened_.tokenizer, documents_,
        [this](const std::string& query, int64_t count) { return find(query, count); }, options_);
  }
  std::vector<TokenId> passage(const RetrievedPassage& found) const {
    std::vector<TokenId> tokens = opened_.tokenizer->encode(found.text);
    tokens.resize(std::min<size_t>(tokens.size(), kPassage));
    return tokens;
  }
  static at::Tensor ids(const std::vector<TokenId>& tokens) {
    return at::tensor(std::vector<int64_t>(tokens.begin(), tokens.end())).unsqueeze(0);
  }
  // -log p of each scored label of a window, from all logits.
  at::Tensor direct(const std::vector<TokenId>& window, const std::vector<TokenId>& before,
                    const Latents* context) const {
    std::vector<TokenId> text = before;
    text.insert(text.end(), window.begin(), window.end() - 1);
    DecodeInput input{ids(text)};
    input.context = context;
    const at::Tensor log_p = logits(opened_.model, decode(opened_.model, input))[0].log_softmax(-1);
    std::vector<at::Tensor> losses;
    for (int64_t t = kQuery; t < kDecoder; ++t) {
      losses.push_back(-log_p[static_cast<int64_t>(before.size()) + t][window[static_cast<size_t>(t + 1)]]);
    }
    return at::stack(losses);
  }
  const RetrievalLmRow& row(const RetrievalLmRun& run, const std::string& reader, int64_t k) const {
    for (const RetrievalLmRow& row : run.rows) {
      if (row.reader == reader && row.passages == k) return row;
    }
    fail("no row {} {}", reader, k);
  }

  TemporaryDirectory directory_;
  OpenedModel opened_;
  std::vector<TokenDocument> documents_;
  RetrievalLmOptions options_;
};

TEST_F(RetrievalLm, EveryRowIsTheDirectComputation) {
  const at::NoGradGuard no_gradients;
  const RetrievalLmRun run = score();
  ASSERT_EQ(run.windows, 4);
  EXPECT_EQ(run.rows.size(), 3u + 2u + 2u + 2u);
  for (size_t w = 0; w < 4; ++w) {
    const auto record = nlohmann::json::parse([&] {
      std::string lines = read_file(directory_ / "run/samples.jsonl");
      for (size_t i = 0; i < w; ++i) lines.erase(0, lines.find('\n') + 1);
      return lines.substr(0, lines.find('\n'));
    }());
    const auto& tokens = documents_[static_cast<size_t>(record["document"].get<std::string>()[1] - '0')].tokens;
    const auto start = tokens.begin() + record["start"].get<int64_t>();
    const std::vector<TokenId> window(start, start + kDecoder + 1);
    const auto found = find(opened_.tokenizer->decode(std::span(window).first(kQuery)), 3);
    EXPECT_NEAR(row(run, "cepe", 0).nll[w], direct(window, {}, nullptr).mean().item<double>(), 1e-9);
    std::vector<at::Tensor> states, each;
    std::vector<TokenId> before;
    for (const int64_t k : {1, 2, 3}) {
      const std::vector<TokenId> read = passage(found[static_cast<size_t>(k - 1)]);
      states.push_back(encode(opened_.model, {ids(read).unsqueeze(0), {}}).states_BSE);
      each.push_back(direct(window, read, nullptr));
      before.insert(before.begin(), read.begin(), read.end());
      if (k == 1) continue;
      const Latents latents{at::cat(states, 1), {}};
      EXPECT_NEAR(row(run, "cepe", k).nll[w], direct(window, {}, &latents).mean().item<double>(), 1e-9);
      EXPECT_NEAR(row(run, "prompt", k).nll[w], direct(window, before, nullptr).mean().item<double>(), 1e-9);
      at::Tensor mixture = at::zeros_like(each[0]), weights = at::zeros({k}, at::kDouble);
      for (int64_t i = 0; i < k; ++i) weights[i] = std::exp(found[static_cast<size_t>(i)].score);
      weights = weights / weights.sum();
      for (int64_t i = 0; i < k; ++i) mixture = mixture + weights[i] * (-each[static_cast<size_t>(i)]).exp();
      EXPECT_NEAR(row(run, "replug", k).nll[w], -mixture.log().mean().item<double>(), 1e-9);
    }
    EXPECT_GT(std::abs(row(run, "other", 3).nll[w] - row(run, "cepe", 3).nll[w]), 1e-9);
  }
  EXPECT_TRUE(row(run, "cepe", 2).against_other.has_value());
  EXPECT_THAT(retrieval_lm_table(run), HasSubstr("| replug | 3 | "));
}

TEST_F(RetrievalLm, ReplugsLossIsOfItsMixture) {
  const at::NoGradGuard no_gradients;
  const std::vector<TokenId>& tokens = documents_[0].tokens;
  const std::vector<TokenId> window(tokens.begin(), tokens.begin() + kDecoder + 1);
  const std::vector<TokenId> text(window.begin(), window.end() - 1);
  const at::Tensor scores = at::tensor(std::vector<double>{0.2, 1.5});
  std::vector<at::Tensor> contexts, losses;
  for (int c = 0; c < 2; ++c) {
    const auto begin = documents_[1].tokens.begin() + 9 * c;
    const std::vector<TokenId> context(begin, begin + kPassage);
    contexts.push_back(ids(context));
    losses.push_back(direct(window, context, nullptr));
  }
  const at::Tensor mixture =
      replug_log_probs(opened_.model, {at::stack(contexts, 1), scores.unsqueeze(0), ids(text), 1.0})[0].narrow(
          0, kPassage, kDecoder);
  const at::Tensor found = replug_losses(at::stack(losses), scores);
  for (int64_t t = kQuery; t < kDecoder; ++t) {
    const double expected = -mixture[t][window[static_cast<size_t>(t + 1)]].item<double>();
    EXPECT_NEAR(found[t - kQuery].item<double>(), expected, 1e-9);
  }
}

TEST_F(RetrievalLm, AnInterruptedRunEndsInTheSameFile) {
  const RetrievalLmRun whole = score();
  const std::string lines = read_file(directory_ / "run/samples.jsonl");
  write_file(directory_ / "run/samples.jsonl", lines.substr(0, lines.find('\n') + 20));
  const RetrievalLmRun resumed = score();
  EXPECT_EQ(resumed.resumed, 1);
  EXPECT_EQ(read_file(directory_ / "run/samples.jsonl"), lines);
  EXPECT_EQ(resumed.rows.back().perplexity, whole.rows.back().perplexity);
  options_.configuration = {{"a", 2}};
  EXPECT_THAT(error_of([&] { score(); }), HasSubstr("run.json: an evaluation with a = 1 was begun here, now it is 2"));
}

TEST_F(RetrievalLm, PassagesThatHoldTheWindowAreLeftOut) {
  const std::string text = opened_.tokenizer->decode(documents_[0].tokens);
  const RetrievalLmRun run = score_with_retrieval(
      opened_.model, *opened_.tokenizer, documents_,
      [&](const std::string& query, int64_t count) {
        auto found = find(query, count);
        found.insert(found.begin(), {"whole", text, 2.0});
        return found;
      },
      options_);
  EXPECT_GT(run.left_out, 0);
  EXPECT_THAT(read_file(directory_ / "run/samples.jsonl"), HasSubstr("\"left_out\":1,\"nll\""));
}

// Other case, punctuation and length than the window's own words have; scripts without spaces.
TEST_F(RetrievalLm, PassagesThatHoldTheWindowsWordsAreLeftOutHoweverTheyAreWritten) {
  std::string han, thai;
  for (unsigned i = 0; i < 60; ++i) append_utf8(0x4E00 + 37 * i, han);
  for (unsigned i = 0; i < 40; ++i) append_utf8(0x0E01 + i, thai);
  documents_ = {{"words", "text",
                 opened_.tokenizer->encode("The Ferry left at Noon, and Anna lit a lamp in the harbour "
                                           "while all of the others waited for the captain to come "
                                           "back from the town on the other side of the river.")},
                {"han", "text", opened_.tokenizer->encode(han)},
                {"thai", "text", opened_.tokenizer->encode(thai)}};
  options_.windows = 0;
  options_.decoder_tokens = 56;
  const auto left_out = [&](const RetrievedPassage& given) {
    std::filesystem::remove_all(options_.directory);
    return score_with_retrieval(
               opened_.model, *opened_.tokenizer, documents_,
               [&](const std::string& query, int64_t count) {
                 auto found = find(query, count);
                 found.insert(found.begin(), given);
                 return found;
               },
               options_)
        .left_out;
  };
  const auto part = [](const std::string& text, size_t first, size_t count) {
    return text.substr(3 * first, 3 * count);  // each character has three bytes
  };
  EXPECT_GT(left_out({"a", "It says: THE FERRY LEFT AT NOON (and Anna lit) something else", 2}), 0);
  EXPECT_EQ(left_out({"a", "It says: the ferry left at noon, and Anna saw something else", 2}), 0);
  EXPECT_GT(left_out({"a", "the ferry left", 2}), 0);
  EXPECT_EQ(left_out({"a", "Of ferries\nthe ferry left", 2}), 0);
  EXPECT_GT(left_out({"a", "Of ferries\nthe ferry left", 2, 10}), 0);
  EXPECT_GT(left_out({"a", part(han, 0, 16) + part(han, 40, 9), 2}), 0);
  EXPECT_EQ(left_out({"a", part(han, 0, 15) + part(han, 40, 9), 2}), 0);
  EXPECT_GT(left_out({"a", part(han, 2, 4), 2}), 0);
  EXPECT_GT(left_out({"a", part(thai, 0, 16) + part(han, 50, 9), 2}), 0);
  EXPECT_EQ(left_out({"a", "\u2014 ?!", 2}), 0);
}

TEST_F(RetrievalLm, TheControlReadsSparesAndIsCountedWhereItReadsFewer) {
  const std::string text = opened_.tokenizer->decode(documents_[0].tokens);
  const auto controls = [&](int64_t others) {
    std::filesystem::remove_all(options_.directory);
    return score_with_retrieval(
               opened_.model, *opened_.tokenizer, documents_,
               [&](const std::string& query, int64_t) {
                 auto found = find(query, others);
                 found.insert(found.begin(), {"whole", text, 2.0});
                 return found;
               },
               options_)
        .short_controls;
  };
  EXPECT_EQ(controls(3), 0);
  EXPECT_GT(controls(2), 0);
}

TEST_F(RetrievalLm, AWindowWithoutPassagesIsReadByThePlainDecoder) {
  int asked = 0;
  const RetrievalLmRun run = score_with_retrieval(
      opened_.model, *opened_.tokenizer, documents_,
      [&](const std::string& query, int64_t count) {
        return asked++ == 0 ? std::vector<RetrievedPassage>{} : find(query, count);
      },
      options_);
  EXPECT_EQ(run.rows.size(), 3u + 2u + 2u + 2u);
  for (const char* reader : {"cepe", "replug", "prompt"}) {
    EXPECT_NEAR(row(run, reader, 3).nll[0], row(run, "cepe", 0).nll[0], 1e-12) << reader;
    EXPECT_GT(std::abs(row(run, reader, 3).nll[1] - row(run, "cepe", 0).nll[1]), 1e-9) << reader;
  }
  EXPECT_TRUE(run.notes.empty());
  EXPECT_EQ(run.short_windows, 1);
}

TEST_F(RetrievalLm, ARunDoesNotGoOnWithOtherPassages) {
  score();
  EXPECT_THAT(error_of([&] {
                score_with_retrieval(
                    opened_.model, *opened_.tokenizer, documents_,
                    [&](const std::string& query, int64_t count) {
                      auto found = find(query, count);
                      found[1].id = "another";
                      return found;
                    },
                    options_);
              }),
              HasSubstr("samples.jsonl:1: the record has another window or other passages than are found now"));
}

TEST_F(RetrievalLm, BadOptionsAreOneSentence) {
  const auto refused = [&](auto change) {
    const RetrievalLmOptions before = options_;
    change(options_);
    const std::string error = error_of([&] { score(); });
    options_ = before;
    return error;
  };
  EXPECT_THAT(refused([](auto& o) { o.passages = {2, 4}; }), HasSubstr("should ascend from 0"));
  EXPECT_THAT(refused([](auto& o) { o.passages = {0, 4, 4}; }), HasSubstr("should ascend from 0"));
  EXPECT_THAT(refused([](auto& o) { o.query_tokens = kDecoder; }), HasSubstr("query tokens"));
  EXPECT_THAT(refused([](auto& o) { o.decoder_tokens = 1'000'000; }), HasSubstr("do not fit the decoder's window"));
  EXPECT_THAT(refused([](auto& o) { o.passage_tokens = 100'000; }), HasSubstr("which the encoder reads at once"));
  opened_.model.encoder.reset();
  EXPECT_THAT(error_of([&] { score(); }), HasSubstr("no encoder"));
}

}  // namespace
}  // namespace cepe
