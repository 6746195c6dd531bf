// Scores against a recomputation that slices nothing, keeps nothing and works in float64; fixture models.
#include "eval/perplexity.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "base/error.h"
#include "eval/statistics.h"
#include "eval/windows.h"
#include "model/checkpoint/checkpoint.h"

namespace cepe {
namespace {

using testing::HasSubstr;

constexpr int64_t kChunk = 8;
const Reading kOwn{kCepeReader, Control::own}, kOther{kCepeReader, Control::other_document},
    kSame{kCepeReader, Control::same_source}, kShuffled{kCepeReader, Control::shuffled},
    kFull{kFullReader, Control::own}, kFullOther{kFullReader, Control::other_document},
    kFullSame{kFullReader, Control::same_source};

Cepe open_fixture(const std::string& name, at::ScalarType dtype = at::kDouble) {
  at::set_num_threads(1);  // such small tensors only wait for threads
  OpenOptions options;
  options.dtype = dtype;
  Cepe model = open_model(std::filesystem::path(CEPE_TEST_DATA) / name, options).model;
  model.config.chunk_length = kChunk;
  return model;
}

std::vector<TokenDocument> documents(int count, const std::string& domain = "a") {
  std::mt19937 random(static_cast<unsigned>(count));
  std::vector<TokenDocument> result;
  for (int i = 0; i < count; ++i) {
    TokenDocument document{domain + std::to_string(i), domain, {}};
    for (int t = 0; t < 150 + 40 * i; ++t) document.tokens.push_back(static_cast<TokenId>(random() % 128));
    result.push_back(std::move(document));
  }
  return result;
}

PerplexityOptions options() {
  PerplexityOptions options;
  options.decoder_tokens = 32;
  options.context_tokens = {0, 16, 48};
  options.scored_tokens = 8;
  options.stride = 16;
  options.windows = 7;
  options.other_document = options.shuffled = options.full_window = true;
  return options;
}

WindowPlan plan_of(const std::vector<TokenDocument>& documents, const PerplexityOptions& options) {
  return place_windows(documents,
                       {options.decoder_tokens, options.context_tokens.back(), options.stride, options.windows});
}

at::Tensor ids(const std::vector<TokenId>& tokens, int64_t begin, int64_t end) {
  return at::tensor(std::vector<int64_t>(tokens.begin() + begin, tokens.begin() + end), at::kLong).unsqueeze(0);
}

// Mean -log p of the last `scored` of `text`'s tokens, from all logits; the context's chunks encoded one at a time.
double naive_nll(const Cepe& model, const at::Tensor& context, const at::Tensor& text, int64_t scored) {
  const at::NoGradGuard no_grad;
  Latents latents;
  if (context.defined() && context.size(1) > 0) {
    std::vector<at::Tensor> states;
    for (const at::Tensor& chunk : context.split(kChunk, 1))
      states.push_back(encode(model, {chunk.unsqueeze(1), {}}).states_BSE);
    latents.states_BSE = at::cat(states, 1);
  }
  const int64_t T = text.size(1) - 1;
  const at::Tensor log_p =
      logits(model, decode(model, {text.narrow(1, 0, T), &latents})).to(at::kDouble).log_softmax(-1);
  double sum = 0;
  for (int64_t t = T - scored; t < T; ++t) sum -= log_p[0][t][text[0][t + 1].item<int64_t>()].item<double>();
  return sum / static_cast<double>(scored);
}

double naive_row(const Cepe& model, const std::vector<TokenDocument>& documents, const Window& window,
                 const ScoredRow& row) {
  const PerplexityOptions o = options();
  const at::Tensor text = ids(documents[window.document].tokens, window.start, window.start + o.decoder_tokens + 1);
  ContextPlace place{window.document, window.start};
  if (row.reading.control == Control::other_document) place = *window.other;
  if (row.reading.control == Control::same_source) place = *window.same_source;
  const at::Tensor context = ids(documents[place.document].tokens, place.end - row.context_tokens, place.end);
  if (row.reading.reader == kFullReader) return naive_nll(model, {}, at::cat({context, text}, 1), o.scored_tokens);
  return naive_nll(model, context, text, o.scored_tokens);
}

const ScoredRow& row_of(const PerplexityScores& scores, const Reading& reading, int64_t context) {
  for (const ScoredRow& row : scores.rows) {
    if (row.reading == reading && row.context_tokens == context) return row;
  }
  throw std::runtime_error("no such row");
}

class PerplexityFixtures : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Parity, PerplexityFixtures, testing::Values("cepe-mha", "cepe-gqa-last2"));

TEST_P(PerplexityFixtures, ScoresEqualANaiveRecomputation) {
  const Cepe model = open_fixture(GetParam());
  auto text = documents(4);
  text[0].source = text[2].source = "a project";  // documents 1 and 3 have no control of the same source
  text[3].source = "another project";
  for (int64_t batch : {1, 3}) {
    PerplexityOptions o = options();
    o.batch = batch;
    o.same_source = true;
    const PerplexityScores scores = score_windows(model, text, o);
    const auto windows = plan_of(text, o).domains.at(0).windows;
    ASSERT_EQ(scores.rows.size(), 3u + 2u + 2u + 2u + 2u + 2u + 2u);
    ASSERT_EQ(scores.windows.size(), windows.size());
    for (const ScoredRow& row : scores.rows) {
      const bool same = row.reading.control == Control::same_source;
      std::vector<size_t> expected;
      for (size_t i = 0; i < windows.size(); ++i) {
        if (!same || windows[i].document % 2 == 0) expected.push_back(i);
      }
      EXPECT_EQ(row.windows, expected);
      ASSERT_EQ(row.nll.size(), expected.size());
      for (size_t i = 0; i < expected.size(); ++i) {
        const Window& window = windows[expected[i]];
        EXPECT_NEAR(row.nll[i], naive_row(model, text, window, row), 1e-10)
            << reading_name(row.reading) << " " << row.context_tokens << " window " << expected[i];
        EXPECT_EQ(scores.windows[expected[i]].document, text[window.document].name);
        EXPECT_EQ(scores.windows[expected[i]].start, window.start);
      }
      EXPECT_GT(row.seconds, 0);
      EXPECT_GT(row.peak_bytes, 1u << 20);
    }
  }
}

TEST_P(PerplexityFixtures, SinglePrecisionAgrees) {
  const auto text = documents(3);
  const PerplexityScores wide = score_windows(open_fixture(GetParam()), text, options());
  const PerplexityScores narrow = score_windows(open_fixture(GetParam(), at::kFloat), text, options());
  for (size_t r = 0; r < wide.rows.size(); ++r) {
    for (size_t i = 0; i < wide.rows[r].nll.size(); ++i) EXPECT_NEAR(wide.rows[r].nll[i], narrow.rows[r].nll[i], 1e-4);
  }
}

TEST_P(PerplexityFixtures, ContextIsReadAndItsOrderIsNot) {
  const PerplexityScores scores = score_windows(open_fixture(GetParam()), documents(3), options());
  const ScoredRow &own = row_of(scores, kOwn, 48), &shuffled = row_of(scores, kShuffled, 48);
  const ScoredRow &without = row_of(scores, kOwn, 0), &other = row_of(scores, kOther, 48);
  for (size_t i = 0; i < own.nll.size(); ++i) {
    EXPECT_NEAR(own.nll[i], shuffled.nll[i], 1e-11);
    EXPECT_GT(std::abs(own.nll[i] - without.nll[i]), 1e-6);
    EXPECT_GT(std::abs(own.nll[i] - other.nll[i]), 1e-6);
  }
}

TEST(Perplexity, SummaryFollowsTheDefinitions) {
  const PerplexityScores scores = score_windows(open_fixture("cepe-mha"), documents(6), options());
  const PerplexityRecord record = summarise(scores, "tiny", options());
  ASSERT_EQ(record.rows.size(), scores.rows.size());
  const auto ppl = [&](const Reading& reading, int64_t n) { return std::exp(mean(row_of(scores, reading, n).nll)); };
  for (size_t r = 0; r < record.rows.size(); ++r) {
    const PerplexityRow& row = record.rows[r];
    const Reading& reading = row.scored.reading;
    const int64_t n = row.scored.context_tokens;
    EXPECT_EQ(row.scored.nll.size(), 7u);
    EXPECT_EQ(row.documents, 6);
    EXPECT_NEAR(row.perplexity, std::exp(mean(scores.rows[r].nll)), 1e-9);
    EXPECT_FALSE(row.same_source_gain || row.same_source_gain_difference);
    if (n == 0) {
      EXPECT_FALSE(row.change || row.reading_gain || row.against_full_attention);
      continue;
    }
    EXPECT_NEAR(row.change->value, row.perplexity / ppl(kOwn, 0) - 1, 1e-9);
    EXPECT_GT(*row.change->standard_error, 0);
    EXPECT_GT(*row.change->half_width, 2.5 * *row.change->standard_error) << "t quantile of 5 degrees: 2.57";
    const bool own = reading == kOwn, full = reading == kFull;
    ASSERT_EQ(row.reading_gain.has_value(), own || full);
    if (own || full) {
      const double other = ppl(own ? kOther : kFullOther, n);
      EXPECT_NEAR(row.reading_gain->value, 1 - row.perplexity / other, 1e-9);
    }
    ASSERT_EQ(row.against_full_attention.has_value(), own);
    ASSERT_EQ(row.reading_gain_difference.has_value(), own);
    if (!own) continue;
    EXPECT_NEAR(row.against_full_attention->value, row.perplexity / ppl(kFull, n) - 1, 1e-9);
    const double full_gain = 1 - ppl(kFull, n) / ppl(kFullOther, n);
    EXPECT_NEAR(row.reading_gain_difference->value, row.reading_gain->value - full_gain, 1e-9);
  }
}

TEST(Perplexity, TheSameSourceGainIsPairedOnItsWindows) {
  auto text = documents(6);
  for (size_t i = 0; i < 4; ++i) text[i].source = i < 2 ? "one" : "two";
  PerplexityOptions o = options();
  o.same_source = true;
  const PerplexityScores scores = score_windows(open_fixture("cepe-mha"), text, o);
  EXPECT_THAT(scores.notes,
              testing::ElementsAre(
                  HasSubstr("leaves out 2 of 6 documents: 0 because no second document of the source has 48 tokens, "
                            "2 because they name no source")));
  const PerplexityRecord record = summarise(scores, "tiny", o);
  const ScoredRow &own = row_of(scores, kOwn, 48), &same = row_of(scores, kSame, 48), &full = row_of(scores, kFull, 48),
                  &full_same = row_of(scores, kFullSame, 48);
  ASSERT_LT(same.windows.size(), own.windows.size());
  double own_nll = 0, full_nll = 0;
  for (size_t window : same.windows) {
    own_nll += own.nll[window] / static_cast<double>(same.windows.size());
    full_nll += full.nll[window] / static_cast<double>(same.windows.size());
  }
  const double gain = 1 - std::exp(own_nll - mean(same.nll)), full_gain = 1 - std::exp(full_nll - mean(full_same.nll));
  for (const PerplexityRow& row : record.rows) {
    if (row.scored.context_tokens != 48) continue;
    if (row.scored.reading == kOwn) {
      EXPECT_NEAR(row.same_source_gain->value, gain, 1e-9);
      EXPECT_NEAR(row.same_source_gain_difference->value, gain - full_gain, 1e-9);
      EXPECT_FALSE(row.same_source_gain->half_width) << "four documents";
      EXPECT_EQ(row.same_source_gain->documents, 4);
      EXPECT_EQ(row.same_source_gain->windows, static_cast<int64_t>(same.windows.size()));
      EXPECT_EQ(row.same_source_gain_difference->windows, static_cast<int64_t>(same.windows.size()));
      EXPECT_EQ(row.change->windows, static_cast<int64_t>(own.windows.size()));
      EXPECT_TRUE(row.change->half_width) << "six documents";
    }
    if (row.scored.reading == kFull) {
      EXPECT_NEAR(row.same_source_gain->value, full_gain, 1e-9);
    }
    if (row.scored.reading == kSame) {
      EXPECT_EQ(row.documents, 4);
    }
  }
}

TEST(Perplexity, TheSameSourceNeedsANamedSource) {
  PerplexityOptions o = options();
  o.same_source = true;
  EXPECT_THROW(score_windows(open_fixture("cepe-mha"), documents(3), o), Error);
  auto alone = documents(3);
  alone[0].source = "alone";
  const PerplexityScores scores = score_windows(open_fixture("cepe-mha"), alone, o);
  EXPECT_THAT(scores.notes, testing::ElementsAre(HasSubstr("leaves out 3 of 3 documents: 1 because")));
  for (const ScoredRow& row : scores.rows) EXPECT_NE(row.reading, kSame);
}

TEST(Perplexity, DomainsAreScoredApart) {
  auto text = documents(2, "a");
  for (auto& document : documents(3, "b")) text.push_back(document);
  PerplexityOptions o = options();
  int64_t last = 0, total = 0;
  o.same_source = true;
  text[0].source = text[1].source = text[3].source = "a project";
  o.progress = [&](int64_t done, int64_t all) {
    EXPECT_GT(done, last);
    last = done;
    total = all;
  };
  const PerplexityScores both = score_windows(open_fixture("cepe-mha"), text, o);
  EXPECT_EQ(last, total);
  const PerplexityScores alone = score_windows(open_fixture("cepe-mha"), documents(2, "a"), options());
  ASSERT_EQ(both.rows.size(), 2 * alone.rows.size() + 2 + 2) << "and the same source of a, in both readers";
  for (const ScoredRow& row : both.rows) {
    for (size_t window : row.windows) EXPECT_EQ(both.windows[window].domain, row.domain);
    EXPECT_FALSE(row.domain == "b" && row.reading == kSame);
  }
  for (const ScoredRow& row : alone.rows) EXPECT_EQ(row_of(both, row.reading, row.context_tokens).nll, row.nll);
}

TEST(Perplexity, ASingleDocumentHasNoControl) {
  const PerplexityScores scores = score_windows(open_fixture("cepe-mha"), documents(1), options());
  ASSERT_EQ(scores.notes.size(), 1u);
  EXPECT_THAT(scores.notes[0], HasSubstr("needs a second document of at least 48 tokens"));
  const PerplexityRecord record = summarise(scores, "tiny", options());
  EXPECT_EQ(record.rows.size(), 3u + 2u + 2u);  // own, shuffled, full attention
  for (const PerplexityRow& row : record.rows) EXPECT_FALSE(row.reading_gain);
}

TEST(Perplexity, WindowsBeyondTheDecodersAreLeftOut) {
  PerplexityOptions o = options();
  o.context_tokens = {0, 96, 104};  // the fixture's window is 128: 32 + 96 fits, 32 + 104 does not
  auto text = documents(4);
  const PerplexityScores scores = score_windows(open_fixture("cepe-mha"), text, o);
  EXPECT_EQ(
      std::count_if(scores.rows.begin(), scores.rows.end(), [](const ScoredRow& r) { return r.reading == kFull; }), 1);
  o.context_tokens = {0, 104};
  EXPECT_THAT(score_windows(open_fixture("cepe-mha"), text, o).notes,
              testing::ElementsAre(HasSubstr("full-window is left out")));
}

TEST(Perplexity, APlainDecoderReadsItsOwnWindow) {
  const Cepe whole = open_fixture("cepe-mha");
  Cepe plain = whole;
  plain.encoder.reset();
  PerplexityOptions o = options();
  o.other_document = o.shuffled = false;
  const PerplexityScores scores = score_windows(plain, documents(3), o),
                         reference = score_windows(whole, documents(3), options());
  EXPECT_EQ(scores.rows.size(), 1u + 2u + 2u);
  EXPECT_EQ(row_of(scores, kOwn, 0).nll, row_of(reference, kOwn, 0).nll);
  EXPECT_EQ(row_of(scores, kFull, 48).nll, row_of(reference, kFull, 48).nll);
}

std::string error_of(const Cepe& model, const PerplexityOptions& options) {
  try {
    check_perplexity_options(model, options);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Perplexity, ContradictionsAreNamed) {
  const Cepe model = open_fixture("cepe-mha");
  const auto with = [&](auto change) {
    PerplexityOptions o = options();
    change(o);
    return error_of(model, o);
  };
  EXPECT_EQ(error_of(model, options()), "no error");
  EXPECT_THAT(with([](auto& o) { o.context_tokens = {0, 16, 16}; }), HasSubstr("must ascend, found 16 after 16"));
  EXPECT_THAT(with([](auto& o) { o.context_tokens = {-8, 16}; }), HasSubstr("cannot be negative"));
  EXPECT_THAT(with([](auto& o) { o.context_tokens = {}; }), HasSubstr("empty"));
  EXPECT_THAT(with([](auto& o) { o.context_tokens = {0, 20}; }),
              HasSubstr("20 tokens is not a whole number of chunks of 8"));
  EXPECT_THAT(with([](auto& o) { o.context_tokens = {0}; }), HasSubstr("other-document needs a context"));
  EXPECT_THAT(with([](auto& o) {
                o.context_tokens = {0};
                o.other_document = false;
                o.same_source = true;
              }),
              HasSubstr("same-source needs a context"));
  EXPECT_THAT(with([](auto& o) { o.decoder_tokens = 129; }), HasSubstr("exceed the decoder's window of 128"));
  EXPECT_THAT(with([](auto& o) { o.decoder_tokens = 0; }), HasSubstr("must be positive"));
  EXPECT_THAT(with([](auto& o) { o.scored_tokens = 33; }), HasSubstr("between 1 and the 32"));
  EXPECT_THAT(with([](auto& o) { o.scored_tokens = 0; }), HasSubstr("between 1 and the 32"));
  EXPECT_THAT(with([](auto& o) { o.stride = 7; }), HasSubstr("at least the 8 scored tokens"));
  EXPECT_THAT(with([](auto& o) { o.windows = -1; }), HasSubstr("number of windows"));
  EXPECT_THAT(with([](auto& o) { o.batch = -1; }), HasSubstr("batch"));
  Cepe plain = model;
  plain.encoder.reset();
  EXPECT_THAT(error_of(plain, options()), HasSubstr("has no encoder"));
}

TEST(Perplexity, TokensOutsideTheVocabularyAreRefused) {
  auto text = documents(2);
  text[1].tokens[30] = 128;
  EXPECT_THROW(score_windows(open_fixture("cepe-mha"), text, options()), Error);
}

}  // namespace
}  // namespace cepe
