#include "eval/record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "base/file.h"

namespace cepe {
namespace {

using testing::HasSubstr;

PerplexityRow row(const std::string& domain, Control control, int64_t context, double perplexity) {
  PerplexityRow row{domain, context, control, 12, 3, perplexity};
  row.seconds = 1.5;
  row.peak_bytes = 2000000;
  if (context > 0) {
    row.change = perplexity / 20 - 1;
    row.standard_error = 0.004;
  }
  return row;
}

PerplexityRecord record() {
  PerplexityRecord record{"models/small", 2048, 256, {}};
  record.rows = {row("books", Control::own, 0, 20), row("books", Control::own, 6144, 18),
                 row("books", Control::other_document, 6144, 19), row("books", Control::full_window, 6144, 19.5),
                 row("books", Control::full_window_other, 6144, 20.25)};
  record.rows[1].reading_gain = 1 - 18.0 / 19;
  record.rows[1].reading_gain_error = 0.002;
  record.rows[3].reading_gain = 1 - 19.5 / 20.25;
  record.rows[3].reading_gain_error = 0.003;
  return record;
}

TEST(Record, JsonHasTheKeysOfItsDescription) {
  const nlohmann::json json = to_json(record());
  std::set<std::string> keys, row_keys;
  for (const auto& [key, value] : json.items()) keys.insert(key);
  EXPECT_EQ(keys, (std::set<std::string>{"model", "decoder_tokens", "scored_tokens", "rows"}));
  ASSERT_EQ(json["rows"].size(), 4u);  // the other document in the window shows in the reading gain alone
  for (const auto& row : json["rows"]) {
    row_keys.clear();
    for (const auto& [key, value] : row.items()) row_keys.insert(key);
    EXPECT_EQ(row_keys,
              (std::set<std::string>{"domain", "context_tokens", "control", "spans", "documents", "perplexity",
                                     "change", "standard_error", "reading_gain", "seconds", "peak_bytes"}));
  }
  EXPECT_EQ(json["rows"][0]["control"], "own");
  EXPECT_EQ(json["rows"][2]["control"], "other-document");
  EXPECT_EQ(json["rows"][3]["control"], "full-window");
  EXPECT_TRUE(json["rows"][0]["change"].is_null());
  EXPECT_TRUE(json["rows"][0]["standard_error"].is_null());
  EXPECT_TRUE(json["rows"][2]["reading_gain"].is_null());
  EXPECT_NEAR(json["rows"][1]["change"].get<double>(), -0.1, 1e-12);
  EXPECT_EQ(json["rows"][1]["context_tokens"], 6144);
  EXPECT_EQ(json["rows"][1]["peak_bytes"], 2000000);
}

TEST(Record, ValuesThatAreNotFiniteAreNull) {
  PerplexityRecord broken = record();
  broken.rows[0].perplexity = std::numeric_limits<double>::infinity();
  broken.rows[1].change = std::numeric_limits<double>::quiet_NaN();
  const nlohmann::json json = to_json(broken);
  EXPECT_TRUE(json["rows"][0]["perplexity"].is_null());
  EXPECT_TRUE(json["rows"][1]["change"].is_null());
}

TEST(Record, TableEndsWithTheReadingGain) {
  const std::string table = to_table(record());
  EXPECT_THAT(table.substr(0, table.find('\n')), testing::EndsWith("reading gain"));
  EXPECT_THAT(table, HasSubstr("-10.00 % +- 0.40"));
  EXPECT_THAT(table, HasSubstr("+5.26 % +- 0.20\n"));
  EXPECT_THAT(table, HasSubstr("full window, other document"));
  EXPECT_THAT(table, testing::Not(HasSubstr("books")));  // a single domain needs no column
  PerplexityRecord two = record();
  two.rows.push_back(row("code", Control::own, 0, 3.9));
  EXPECT_THAT(to_table(two), HasSubstr("books"));
}

TEST(Record, SentencesSayWhatTheNumbersMean) {
  const std::string text = to_sentences(record());
  EXPECT_THAT(text,
              HasSubstr("With 6,144 tokens of context through the encoder, perplexity falls from 20.00 to 18.00"));
  EXPECT_THAT(text, HasSubstr("on the last 256 tokens of 12 windows in 3 documents."));
  EXPECT_THAT(text, HasSubstr("another document gives 19.00"));
  EXPECT_THAT(text, HasSubstr("is 5.3 % (standard error 0.2)"));
  EXPECT_THAT(text, HasSubstr("the plain decoder's, over 6,144 tokens in its own window, is 3.7 %"));
  PerplexityRecord worse = record();
  worse.rows[1] = row("books", Control::own, 6144, 22);
  EXPECT_THAT(to_sentences(worse), HasSubstr("rises from 20.00 to 22.00 (+10.00 %"));
  PerplexityRecord plain = record();
  plain.rows.resize(1);
  EXPECT_EQ(to_sentences(plain), "");
}

TEST(Record, PlotHasALineForEachReading) {
  const auto path = std::filesystem::path(testing::TempDir()) / "cepe-record.svg";
  write_plot(record(), path);
  const std::string svg = read_file(path);
  EXPECT_THAT(svg, HasSubstr("<svg"));
  EXPECT_THAT(svg, HasSubstr("own text through the encoder"));
  EXPECT_THAT(svg, HasSubstr("another document through the encoder"));
  EXPECT_THAT(svg, HasSubstr("no encoder"));
  EXPECT_THAT(svg, HasSubstr("perplexity of the last 256 tokens"));
  PerplexityRecord two = record();
  two.rows.push_back(row("code", Control::own, 0, 3.9));
  two.rows.push_back(row("code", Control::own, 6144, 3.5));
  write_plot(two, path);
  EXPECT_THAT(read_file(path), HasSubstr("change of perplexity against no context"));
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace cepe
