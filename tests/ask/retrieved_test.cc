// Passages of the corpus, and samples of running text beside what a search finds for its beginning.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "ask/ask_fixture.h"
#include "ask/layout.h"
#include "ask/write_samples.h"
#include "base/error_of.h"

namespace cepe {
namespace {

using ask_test::smollm2;
using ask_test::write;

// Words of ASCII text, worked out apart from the product's hashes.
std::vector<std::string> words(std::string_view text) {
  std::vector<std::string> list;
  bool inside = false;
  for (const char c : text) {
    const bool letter = std::isalnum(static_cast<unsigned char>(c));
    if (letter && !inside) list.emplace_back();
    if (letter) list.back() += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    inside = letter;
  }
  return list;
}

std::set<std::string> runs_of_eight(std::string_view text) {
  const std::vector<std::string> list = words(text);
  std::set<std::string> runs;
  for (size_t i = 0; i + 8 <= list.size(); ++i) {
    std::string run;
    for (size_t j = i; j < i + 8; ++j) run += list[j] + " ";
    runs.insert(run);
  }
  return runs;
}

bool share_eight(std::string_view a, std::string_view b) {
  const std::set<std::string> of_a = runs_of_eight(a), of_b = runs_of_eight(b);
  return std::any_of(of_a.begin(), of_a.end(), [&](const std::string& run) { return of_b.contains(run); });
}

// BM25 by its formula, passage by passage; words of more than a tenth of the passages count where no other does.
class BruteForce {
 public:
  explicit BruteForce(const std::vector<std::string>& passages) {
    for (const std::string& passage : passages) {
      counts_.emplace_back();
      lengths_.push_back(0);
      for (const std::string& word : words(passage)) {
        if (counts_.back()[word]++ == 0) ++having_[word];
        ++lengths_.back();
      }
      mean_ += lengths_.back() / static_cast<double>(passages.size());
    }
  }

  // Numbers of passages with a common word, best first.
  std::vector<size_t> ranked(std::string_view query) const {
    const auto n = static_cast<double>(counts_.size());
    std::set<std::string> rare, common;
    for (const std::string& word : words(query)) {
      if (having_.contains(word)) (having_.at(word) > n / 10 ? common : rare).insert(word);
    }
    std::vector<std::pair<double, size_t>> order;
    for (size_t p = 0; p < counts_.size(); ++p) {
      double score = 0;
      for (const std::string& word : rare.empty() ? common : rare) {
        const auto found = counts_[p].find(word);
        if (found == counts_[p].end()) continue;
        const double df = having_.at(word), tf = found->second;
        score +=
            std::log(1 + (n - df + 0.5) / (df + 0.5)) * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * lengths_[p] / mean_));
      }
      // Sums of the same parts in another order differ in the last bits.
      if (score > 0) order.emplace_back(-std::round(score * 1e9), p);
    }
    std::sort(order.begin(), order.end());
    std::vector<size_t> numbers;
    for (const auto& [score, p] : order) numbers.push_back(p);
    return numbers;
  }

 private:
  std::vector<std::map<std::string, double>> counts_;
  std::vector<double> lengths_;
  std::map<std::string, double> having_;
  double mean_ = 0;
};

std::vector<std::string> texts_of(const AskPassages& passages, const AskCorpus& corpus) {
  std::vector<std::string> texts;
  for (size_t p = 0; p < passages.size(); ++p) texts.emplace_back(corpus.text(passages.place(p)));
  return texts;
}

std::string scored_text(const AskDraft& draft) { return draft.turns[0].wording + draft.turns[0].answer; }

// Where the decoder's text stands in the corpus.
AskPlace place_of(const AskCorpus& corpus, const std::string& text) {
  for (size_t number = 0; number < static_cast<size_t>(corpus.documents()); ++number) {
    const size_t at = corpus.text(number).find(text);
    if (at != std::string::npos) return {number, at, text.size()};
  }
  ADD_FAILURE() << "not in the corpus: " << text;
  return {};
}

TEST(Retrieved, PassagesAreTheBestThatAreNotTheText) {
  const ask_test::Sources sources;
  const AskCorpus& corpus = sources.get().corpus;
  const AskPassages& passages = sources.get().passages;
  const BruteForce reference(texts_of(passages, corpus));
  size_t found = 0, overlapping = 0, held_back = 0, own_document = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    AskRequest request = sources.request(seed, 1 + static_cast<int64_t>(seed % 12));
    request.validation = seed % 3 == 2;
    const AskDraft draft = make_retrieved(sources.get(), request);
    ASSERT_EQ(draft.turns.size(), 1u);
    const AskPlace scored = place_of(corpus, scored_text(draft));
    EXPECT_EQ(corpus.for_validation(scored.text), request.validation);
    std::vector<std::string> expected;
    for (const size_t p : reference.ranked(draft.turns[0].wording)) {
      const AskPlace& place = passages.place(p);
      const bool overlaps = place.text == scored.text && place.begin < scored.begin + scored.size &&
                            scored.begin < place.begin + place.size;
      const bool kept = corpus.for_validation(place.text) && !request.validation;
      overlapping += overlaps ? 1 : 0;
      held_back += kept ? 1 : 0;
      if (overlaps || kept || share_eight(corpus.text(place), corpus.text(scored))) continue;
      if (static_cast<int64_t>(expected.size()) == request.chunks) break;
      expected.emplace_back(corpus.text(place));
      own_document += place.text == scored.text ? 1 : 0;
    }
    std::vector<std::string> documents;
    for (const AskDocument& document : draft.documents) documents.push_back(document.text);
    EXPECT_EQ(documents, expected) << seed;
    found += documents.size();
    // Half of a text is the query, at most; the rest follows at once.
    EXPECT_LE(draft.turns[0].wording.size(), scored.size / 2 + 1);
  }
  EXPECT_GT(found, 150u);
  EXPECT_GT(overlapping, 60u);
  EXPECT_GT(held_back, 0u);
  EXPECT_GT(own_document, 0u);
}

// A corpus of these documents, each a domain of its own with a document for validation behind it.
class OwnCorpus {
 public:
  explicit OwnCorpus(const std::vector<std::string>& documents, const std::string& refused = "") {
    std::string lines;
    for (size_t d = 0; d < documents.size(); ++d) {
      for (const std::string& text : {documents[d], std::string("Nothing of it all.")})
        lines += nlohmann::json{{"text", text}, {"domain", fmt::format("d{}", d)}}.dump() + "\n";
    }
    refused_.add(refused);
    corpus_.emplace(AskCorpus::Options{.files = {write(directory_, "texts.jsonl", lines)}, .max_shared = 0}, refused_,
                    smollm2());
  }
  const AskCorpus& get() const { return *corpus_; }

 private:
  TemporaryDirectory directory_;
  ShingleSet refused_;
  std::optional<AskCorpus> corpus_;
};

const std::string kFerry = "The grey ferry left the harbour of Bergen at noon with forty crates of lamps.";

// The same words at another place of the corpus are not found but the answer; a text that stands twice is found once.
TEST(Retrieved, WhatSharesEightWordsWithTheTextIsLeftOut) {
  const OwnCorpus corpus({kFerry, "They say the grey ferry left the harbour of Bergen at night.",
                          "A ferry of Bergen was grey.", "The ferry sank.", "A ferry of Bergen was grey."});
  const AskPassages passages(corpus.get(), {.passage_tokens = 64, .most = 100});
  const std::string_view query = "grey ferry Bergen";
  const AskPlace scored{0, 0, kFerry.size()};
  const auto texts = [&](size_t count) {
    std::vector<std::string> found;
    for (const AskPlace& place : passages.find({query, scored}, count)) found.emplace_back(corpus.get().text(place));
    return found;
  };
  EXPECT_EQ(texts(9), (std::vector<std::string>{"A ferry of Bergen was grey.", "The ferry sank."}));
  EXPECT_EQ(texts(1), std::vector<std::string>{"A ferry of Bergen was grey."});
  EXPECT_TRUE(passages.find({"nothing common", scored}, 3).empty());
}

TEST(Retrieved, PassagesCoverTheCorpusAndEndWithSentences) {
  const ask_test::Sources sources;
  const AskCorpus& corpus = sources.get().corpus;
  const AskPassages& passages = sources.get().passages;
  size_t next = 0, whole = 0;
  for (size_t number = 0; number < static_cast<size_t>(corpus.documents()); ++number) {
    size_t at = 0;
    for (; next < passages.size() && passages.place(next).text == number; ++next) {
      const AskPlace& place = passages.place(next);
      const std::string_view between = corpus.text(number).substr(at, place.begin - at), text = corpus.text(place);
      EXPECT_EQ(between.find_first_not_of(" \n"), std::string_view::npos);
      EXPECT_LE(smollm2().encode(text).size(), 256u * 105 / 100);  // a token's bytes are an estimate
      whole += text.ends_with('.') ? 1 : 0;
      at = place.begin + place.size;
    }
    EXPECT_EQ(corpus.text(number).substr(at).find_first_not_of(" \n"), std::string_view::npos);
  }
  EXPECT_EQ(next, passages.size());
  EXPECT_GT(whole, passages.size() * 9 / 10);
  // Without sentences and spaces: between characters, none of which is cut.
  std::string line;
  for (int i = 0; i < 400; ++i) line += "é";
  const OwnCorpus unbroken({line});
  const AskPassages pieces(unbroken.get(), {.passage_tokens = 16, .most = 100});
  std::string joined;
  for (const std::string& text : texts_of(pieces, unbroken.get())) {
    if (text.starts_with("Nothing")) continue;
    EXPECT_EQ(text.size() % 2, 0u);
    joined += text;
  }
  EXPECT_EQ(joined, line);
  EXPECT_GT(pieces.size(), 5u);
}

TEST(Retrieved, PassagesAreThinnedEvenlyAndRefused) {
  const ask_test::Sources sources;
  const AskCorpus& corpus = sources.get().corpus;
  const AskPassages& all = sources.get().passages;
  const AskPassages some(corpus, {.passage_tokens = 256, .most = 100});
  ASSERT_EQ(some.size(), 100u);
  for (size_t p = 0; p < 100; ++p) {
    EXPECT_EQ(corpus.text(some.place(p)), corpus.text(all.place(p * all.size() / 100)));
  }
  EXPECT_EQ(AskPassages(corpus, {.passage_tokens = 256, .most = 0}).size(), 0u);
  // Nothing of what measures may be read either.
  const OwnCorpus refused({kFerry, "The ferry sank.", "It is said: " + kFerry}, kFerry);
  const AskPassages left(refused.get(), {.passage_tokens = 64, .most = 100});
  EXPECT_EQ(left.refused(), 2);
  EXPECT_EQ(left.size(), 4u);  // three of validation
  for (const std::string& text : texts_of(left, refused.get())) EXPECT_FALSE(share_eight(text, kFerry));
}

// Each passage is a chunk, the query is read, all that follows is scored, and no end.
TEST(Retrieved, AllOfTheTextButTheQueryIsScored) {
  const ask_test::Sources sources;
  const AskLayout layout(smollm2(), nullptr, {.chunk_length = 256, .most_chunks = 16, .decoder_tokens = 512});
  size_t cut = 0;
  for (uint64_t seed = 0; seed < 30; ++seed) {
    AskRequest request = sources.request(seed, 4);
    request.decoder_tokens = seed % 2 == 0 ? 512 : 600;  // more than the decoder has room for: the end is cut
    request.query_tokens = 128;
    const AskDraft draft = make_retrieved(sources.get(), request);
    const auto sample = layout.lay_out(draft, false, request.random);
    ASSERT_TRUE(sample.has_value());
    ASSERT_EQ(sample->pieces.size(), draft.documents.size() + 2);
    size_t at = 0;
    for (size_t d = 0; d < draft.documents.size(); ++d) {
      std::vector<TokenId> tokens = smollm2().encode(draft.documents[d].text);
      if (tokens.size() > 256) tokens.resize(256);
      const auto begin = sample->tokens.begin() + static_cast<std::ptrdiff_t>(at);
      EXPECT_TRUE(sample->pieces[d].context);
      EXPECT_EQ(std::vector<TokenId>(begin, begin + sample->pieces[d].length), tokens);
      at += static_cast<size_t>(sample->pieces[d].length);
    }
    const SamplePiece &query = sample->pieces[draft.documents.size()], &rest = sample->pieces.back();
    EXPECT_EQ(query.weight, 0);
    EXPECT_EQ(rest.weight, 1);
    EXPECT_LE(query.length, 128 + 128 / 10);
    EXPECT_LT(query.length + rest.length, 512);
    // The tokens of the text as it stands, up to where it is cut.
    const std::vector<TokenId> whole = smollm2().encode(scored_text(draft));
    const std::vector<TokenId> read(sample->tokens.begin() + static_cast<std::ptrdiff_t>(at), sample->tokens.end());
    ASSERT_LE(read.size(), whole.size());
    EXPECT_EQ(read, std::vector<TokenId>(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(read.size())));
    cut += read.size() < whole.size() ? 1 : 0;
    EXPECT_TRUE(read.size() == whole.size() || read.size() == 511);
  }
  EXPECT_GT(cut, 5u);
}

TEST(Retrieved, HasItsShare) {
  const TemporaryDirectory directory;
  AskConfig config = ask_test::config_in(directory);
  for (auto& [kind, share] : config.kinds) share = 0;
  config.kinds["retrieved"] = 1;
  config.kinds["needles"] = 3;
  config.count = 400;
  config.chunks = {1, 4};
  config.chunk_weights = {1, 1};
  const AskMaker maker(config, smollm2(), nullptr);
  int64_t retrieved = 0;
  for (int64_t i = 0; i < config.count; ++i) retrieved += maker.make(AskSplit::training, i).kind == "retrieved";
  EXPECT_NEAR(static_cast<double>(retrieved), 100, 30);  // more than three standard errors
}

}  // namespace
}  // namespace cepe
