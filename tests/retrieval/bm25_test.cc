// The ranking by words beside the formula, worked out over all passages.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>
#include <set>
#include <sstream>

#include "retrieval/indexes.h"

namespace cepe {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// Words of a text of ASCII letters, digits, dots and spaces.
std::vector<std::string> words_of(std::string text) {
  for (char& c : text) c = c == '.' ? ' ' : static_cast<char>(std::tolower(c));
  std::istringstream stream(text);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

// Robertson & Zaragoza 2009, over the texts of live slots.
std::vector<Hit> formula(const std::map<int64_t, std::string>& texts, const std::string& query) {
  constexpr double k1 = 1.2, b = 0.75;
  std::map<int64_t, std::map<std::string, double>> counts;
  std::map<int64_t, double> lengths;
  std::map<std::string, double> passages_with;
  double total = 0;
  for (const auto& [slot, text] : texts) {
    const auto words = words_of(text);
    lengths[slot] = static_cast<double>(words.size());
    total += lengths[slot];
    for (const std::string& word : words) {
      if (++counts[slot][word] == 1) ++passages_with[word];
    }
  }
  const double N = static_cast<double>(texts.size()), mean = total / N;
  const auto query_list = words_of(query);
  const std::set<std::string> different(query_list.begin(), query_list.end());
  std::vector<Hit> hits;
  for (const auto& [slot, text] : texts) {
    double score = 0;
    for (const std::string& word : different) {
      const double f = counts[slot][word], n = passages_with[word];
      const double idf = std::max(std::log((N - n + 0.5) / (n + 0.5)), 1e-6);
      if (f > 0) score += idf * f * (k1 + 1) / (f + k1 * (1 - b + b * lengths[slot] / mean));
    }
    if (score > 0) hits.push_back({slot, score});
  }
  std::stable_sort(hits.begin(), hits.end(), [](const Hit& x, const Hit& y) { return x.score > y.score; });
  return hits;
}

// Words of half of the passages or more may be left out: they move a score by less than this.
constexpr double kWeightless = 1e-4;

void expect_equal(const IndexReader& reader, const std::map<int64_t, std::string>& texts, const std::string& query) {
  std::vector<Hit> expected = formula(texts, query), found = reader.search_words(query, 25);
  const auto weightless = [](const Hit& hit) { return hit.score < kWeightless; };
  std::erase_if(expected, weightless);
  std::erase_if(found, weightless);
  ASSERT_EQ(found.size(), std::min<size_t>(expected.size(), 25)) << query;
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_NEAR(found[i].score, expected[i].score, kWeightless / 10) << query << " rank " << i;
    // Of scores that differ by so little either order is right.
    const auto same =
        std::find_if(expected.begin(), expected.end(), [&](const Hit& hit) { return hit.slot == found[i].slot; });
    ASSERT_NE(same, expected.end());
    EXPECT_NEAR(same->score, found[i].score, kWeightless / 10);
  }
}

// A query whose only words stand in half of the passages or more: they are looked up, and the scores are the formula's.
void expect_equal_without_weight(const IndexReader& reader, const std::map<int64_t, std::string>& texts,
                                 const std::string& query) {
  const std::vector<Hit> expected = formula(texts, query), found = reader.search_words(query, 25);
  ASSERT_GE(2 * expected.size(), texts.size());
  ASSERT_LT(expected[0].score, kWeightless);
  ASSERT_EQ(found.size(), 25u);
  for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i].score, expected[i].score, 1e-12) << i;
}

TEST(Bm25, IsTheFormulaOverAllPassagesAlsoAfterChanges) {
  const TemporaryDirectory directory;
  const std::vector<std::string> texts = drawn_texts(400, 7);
  fill(directory / "index", texts);
  std::map<int64_t, std::string> live;
  for (size_t i = 0; i < texts.size(); ++i) live[static_cast<int64_t>(i)] = texts[i];
  const std::vector<std::string> queries = {"w3 w150", "w1 w2 w0 w77 W77", "w199. w5 w6 w7 w8 w9 w10", "absent w40"};
  for (const std::string& query : queries) expect_equal(IndexReader(directory / "index"), live, query);
  expect_equal_without_weight(IndexReader(directory / "index"), live, "w0");
  {
    IndexWriter writer(directory / "index", nullptr);
    for (const int gone : {0, 17, 399, 203}) {
      EXPECT_TRUE(writer.remove(fmt::format("p{}", gone)));
      live.erase(gone);
    }
    for (const std::string& text : drawn_texts(30, 99)) {
      const auto slot = static_cast<int64_t>(400 + live.size() - 396);
      writer.add(passage_of(fmt::format("new{}", slot), text));
      live[slot] = text;
    }
    writer.commit();
  }
  for (const std::string& query : queries) expect_equal(IndexReader(directory / "index"), live, query);
  expect_equal_without_weight(IndexReader(directory / "index"), live, "w0");
}

TEST(Bm25, WordsWithoutWeightAreLookedUpWhereTheOthersFindTooLittle) {
  const TemporaryDirectory directory;
  fill(directory / "index", {"the door", "the lamp", "The window", "a rug"});
  const auto slots = [&](const std::string& query, int64_t count) {
    std::vector<int64_t> found;
    for (const Hit& hit : IndexReader(directory / "index").search_words(query, count)) found.push_back(hit.slot);
    return found;
  };
  EXPECT_THAT(slots("THE lamp?", 1), ElementsAre(1));
  EXPECT_THAT(slots("the lamp", 9), ElementsAre(1, 0, 2));
  EXPECT_THAT(slots("the", 2), ElementsAre(0, 1));
}

// Words of which each stands in 30 % of the texts, among rare ones ("rare0" to "rare1999").
std::vector<std::string> texts_with(const std::vector<std::string>& often, int count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::string> texts;
  for (int i = 0; i < count; ++i) {
    std::string text;
    for (const std::string& word : often) {
      for (unsigned draw = random() % 10; draw < 3; draw += 2) text += word + " ";
    }
    for (int word = 0; word < 3; ++word) text += fmt::format("rare{} ", random() % 2000);
    texts.push_back(std::move(text));
  }
  return texts;
}

// Where a query's words stand in very many passages, the rarest find them and all of its words score them.
TEST(Bm25, ScoresAreOfAllWordsWhereTheRarestFindAlsoAfterChanges) {
  const TemporaryDirectory directory;
  const auto texts = texts_with({"Often0", "Often1", "Often2", "Often3", "Often4", "Often5"}, 24'000, 5);
  std::map<int64_t, std::string> live;
  for (size_t i = 0; i < texts.size(); ++i) live[static_cast<int64_t>(i)] = texts[i];
  fill(directory / "index", texts);
  const auto check = [&] {
    const IndexReader reader(directory / "index");
    for (const char* query : {"often0 often1 often2 often3 often4 often5 rare17 rare1203",
                              "rare5 OFTEN0 often1. often2 "
                              "often3 often4 often5 often0"}) {
      const std::vector<Hit> expected = formula(live, query), found = reader.search_words(query, 10);
      ASSERT_EQ(found.size(), 10u);
      for (size_t i = 0; i < found.size(); ++i) {
        EXPECT_NEAR(found[i].score, expected[i].score, 1e-6) << query << " rank " << i;
      }
    }
  };
  check();
  {
    IndexWriter writer(directory / "index", nullptr);
    for (int64_t gone = 0; gone < 500; ++gone) {
      EXPECT_TRUE(writer.remove(fmt::format("p{}", gone)));
      live.erase(gone);
    }
    for (int64_t slot = 24'000; slot < 30'000; ++slot) {
      live[slot] = fmt::format("often0 often1 rare{}", slot % 2000);
      writer.add(passage_of(fmt::format("new{}", slot), live[slot]));
    }
    writer.commit();
  }
  check();
}

// As SQLite ranks all passages with one of the words.
std::vector<Hit> ranked_by_sqlite(const std::filesystem::path& index, const std::string& words, int64_t count) {
  const Database database(passages_file(index), Database::Access::read);
  Statement found(database, "SELECT rowid, -rank FROM words WHERE words MATCH ?1 ORDER BY rank, rowid LIMIT ?2");
  std::vector<Hit> hits;
  for (found.bind(std::string_view(words), count); found.step();) hits.push_back({found.integer(0), found.real(1)});
  return hits;
}

TEST(Bm25, EachWordOfAStemCountsWhereTheRarestFind) {
  const TemporaryDirectory directory;
  const std::vector<std::string> often = {"running", "measures", "lamps", "engineers", "ferries", "doors"};
  auto texts = texts_with(often, 24'000, 8);
  for (size_t i = 0; i < texts.size(); i += 5) texts[i] += "running";  // so often that it does not find
  fill(directory / "index", texts, {.words = "porter"});
  const std::vector<Hit> found =
      IndexReader(directory / "index").search_words("run runs running? measured. lamp LAMPS engineer rare77 door", 10);
  const std::vector<Hit> expected = ranked_by_sqlite(
      directory / "index", "run OR runs OR running OR measured OR lamp OR lamps OR engineer OR rare77 OR door", 10);
  ASSERT_EQ(found.size(), 10u);
  for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i].score, expected.at(i).score, 1e-6) << i;
}

// What a query costs is bounded by passages, however few of them have each of its words, and since when.
TEST(Bm25, ManyWordsOfFewPassagesThatWereAddedLaterAreBounded) {
  const TemporaryDirectory directory;
  fill(directory / "index", {"lamp"});
  std::string query;
  for (int word = 0; word < 50; ++word) query += fmt::format("word{} ", word);
  {
    IndexWriter writer(directory / "index", nullptr);
    writer.add(passage_of("best", "word49"));
    for (int i = 0; i < 45'000; ++i)
      writer.add(passage_of(fmt::format("new{}", i), fmt::format("word{} door", i % 50)));
    writer.commit();
  }
  ASSERT_EQ(ranked_by_sqlite(directory / "index", "word48 OR word49", 1).at(0).slot, 1);
  const std::vector<Hit> found = IndexReader(directory / "index").search_words(query, 10);
  EXPECT_EQ(found.size(), 10u);
  for (const Hit& hit : found) EXPECT_NE(hit.slot, 1);  // word49's passages are the most: the others find
}

TEST(Bm25, AnyTextIsAQuery) {
  const TemporaryDirectory directory;
  fill(directory / "index", {"near the \"lamp\" AND the door", "Crème brûlée in 東京", "nothing else"});
  const IndexReader reader(directory / "index");
  const auto slots = [&](const std::string& query) {
    std::vector<int64_t> found;
    for (const Hit& hit : reader.search_words(query, 10)) found.push_back(hit.slot);
    return found;
  };
  EXPECT_THAT(slots("\"lamp\" AND"), ElementsAre(0));
  EXPECT_THAT(slots("lamp* NOT door"), ElementsAre(0));
  EXPECT_THAT(slots("title:lamp ^door (a OR NEAR(b, 3)) - + {} \" ' ; DROP TABLE passages; --"), ElementsAre(0));
  EXPECT_THAT(slots("CREME"), ElementsAre(1));
  EXPECT_THAT(slots("brulee?"), ElementsAre(1));
  EXPECT_THAT(slots("cre\u0301me \u6771\u4EAC"), testing::Contains(1));
  EXPECT_THAT(slots(""), IsEmpty());
  EXPECT_THAT(slots("?! \" * ^ \u2014"), IsEmpty());
  std::string bytes;
  for (char c = 1; c < 127; ++c) bytes.append("x").append(1, c).append("lamp ");
  EXPECT_THAT(slots(bytes), testing::Contains(0));
  std::string many;  // thousands of words are no deeper an expression than two
  for (int i = 0; i < 3000; ++i) many += fmt::format("word{}", i) + " ";
  EXPECT_THAT(slots(many + "lamp"), ElementsAre(0));
}

TEST(Bm25, PorterComparesStems) {
  const TemporaryDirectory directory;
  fill(directory / "plain", {"The engineers were measuring lamps", "another"});
  fill(directory / "porter", {"The engineers were measuring lamps", "another"}, {.words = "porter"});
  EXPECT_TRUE(IndexReader(directory / "plain").search_words("engineer measures lamp", 5).empty());
  EXPECT_EQ(IndexReader(directory / "porter").search_words("engineer measures lamp", 5).size(), 1u);
}

}  // namespace
}  // namespace cepe
