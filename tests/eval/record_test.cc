#include "eval/record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <sstream>

#include "base/file.h"

namespace cepe {
namespace {

using testing::HasSubstr;

const Reading kOwn{kCepeReader, Control::own}, kOther{kCepeReader, Control::other_document},
    kSame{kCepeReader, Control::same_source}, kFull{kFullReader, Control::own},
    kFullOther{kFullReader, Control::other_document}, kFullSame{kFullReader, Control::same_source};

PerplexityRow row(const std::string& domain, const Reading& reading, int64_t context, double perplexity) {
  PerplexityRow row{.documents = 6, .perplexity = perplexity};
  row.scored = {domain, context, reading, {0, 1, 2}, {1, 2, std::log(perplexity)}, 1.5, 2000000};
  if (context > 0) row.change = PairedEstimate{{perplexity / 20 - 1, 0.004, 0.0103}, 3, 3};
  return row;
}

PerplexityRecord record() {
  PerplexityRecord record{"models/small", 2048, 256, {}, {}};
  for (int64_t i = 0; i < 3; ++i) {
    record.windows.push_back({"books", "book" + std::to_string(i), 100 * i, ControlPlace{"other", 7000}, std::nullopt});
  }
  record.windows[1].same_source = ControlPlace{"sibling", 8000};
  record.rows = {
      row("books", kOwn, 0, 20),       row("books", kOwn, 6144, 18),          row("books", kOwn, 30720, 17),
      row("books", kOther, 6144, 19),  row("books", kOther, 30720, 18.5),     row("books", kSame, 6144, 18.4),
      row("books", kFull, 6144, 19.5), row("books", kFullOther, 6144, 20.25), row("books", kFullSame, 6144, 19.9)};
  record.rows[1].reading_gain = PairedEstimate{{1 - 18.0 / 19, 0.002, 0.0051}, 3, 3};
  record.rows[1].same_source_gain = PairedEstimate{{1 - 18.0 / 18.4, std::nullopt, std::nullopt}, 3, 3};
  record.rows[1].against_full_attention = PairedEstimate{{18.0 / 19.5 - 1, 0.01, 0.0257}, 3, 3};
  record.rows[1].reading_gain_difference = PairedEstimate{{0.0156, 0.001, 0.0026}, 3, 3};
  record.rows[1].same_source_gain_difference = PairedEstimate{{0.0016, std::nullopt, std::nullopt}, 3, 3};
  record.rows[2].reading_gain = PairedEstimate{{1 - 17 / 18.5, 0.003, 0.0077}, 3, 3};
  record.rows[6].reading_gain = PairedEstimate{{1 - 19.5 / 20.25, 0.003, 0.0077}, 3, 3};
  record.rows[6].same_source_gain = PairedEstimate{{1 - 19.5 / 19.9, std::nullopt, std::nullopt}, 3, 3};
  for (size_t r : {5, 8})
    record.rows[r].scored.windows = {1}, record.rows[r].scored.nll = {2}, record.rows[r].documents = 1;
  return record;
}

std::set<std::string> keys_of(const nlohmann::json& json) {
  std::set<std::string> keys;
  for (const auto& [key, value] : json.items()) keys.insert(key);
  return keys;
}

TEST(Record, JsonHasTheKeysOfItsDescription) {
  const nlohmann::json json = to_json(record());
  EXPECT_EQ(keys_of(json),
            (std::set<std::string>{"model", "decoder_tokens", "scored_tokens", "interval_level", "windows", "rows"}));
  std::set<std::string> expected{"domain", "context_tokens", "control", "spans",      "documents",    "windows",
                                 "nll",    "perplexity",     "seconds", "peak_bytes", "working_bytes"};
  for (const std::string name : {"change", "reading_gain", "same_source_gain", "against_full_attention",
                                 "reading_gain_difference", "same_source_gain_difference", "against_cepe"}) {
    for (const char* suffix : {"", "_error", "_interval"}) expected.insert(name + suffix);
  }
  ASSERT_EQ(json["rows"].size(), 9u);
  for (const auto& row : json["rows"]) EXPECT_EQ(keys_of(row), expected);
  EXPECT_EQ(json["rows"][0]["control"], "own");
  EXPECT_EQ(json["rows"][3]["control"], "other-document");
  EXPECT_EQ(json["rows"][5]["control"], "same-source");
  EXPECT_EQ(json["rows"][6]["control"], "full-window");
  EXPECT_EQ(json["rows"][7]["control"], "full-window-other-document");
  EXPECT_EQ(json["rows"][8]["control"], "full-window-same-source");
}

TEST(Record, JsonHasEveryNumber) {
  const nlohmann::json json = to_json(record()), &own = json["rows"][1];
  EXPECT_TRUE(json["rows"][0]["change"].is_null());
  EXPECT_TRUE(json["rows"][0]["change_error"].is_null());
  EXPECT_TRUE(json["rows"][3]["reading_gain"].is_null());
  EXPECT_NEAR(own["change"].get<double>(), -0.1, 1e-12);
  EXPECT_EQ(own["change_error"], 0.004);
  EXPECT_EQ(own["change_interval"], 0.0103);
  EXPECT_EQ(own["reading_gain_error"], 0.002);
  EXPECT_EQ(own["reading_gain_interval"], 0.0051);
  EXPECT_NEAR(own["same_source_gain"].get<double>(), 1 - 18.0 / 18.4, 1e-12);
  EXPECT_TRUE(own["same_source_gain_error"].is_null());
  EXPECT_EQ(own["against_full_attention_error"], 0.01);
  EXPECT_EQ(own["reading_gain_difference"], 0.0156);
  EXPECT_EQ(own["context_tokens"], 6144);
  EXPECT_EQ(own["peak_bytes"], 2000000);
  EXPECT_EQ(own["spans"], 3);
  EXPECT_EQ(own["windows"], (std::vector<size_t>{0, 1, 2}));
  EXPECT_EQ(own["nll"], (std::vector<double>{1, 2, std::log(18.0)}));
  EXPECT_EQ(json["rows"][5]["windows"], (std::vector<size_t>{1}));
  const nlohmann::json expected = {{"domain", "books"},
                                   {"document", "book1"},
                                   {"start", 100},
                                   {"other_document", {{"document", "other"}, {"end", 7000}}},
                                   {"same_source", {{"document", "sibling"}, {"end", 8000}}}};
  EXPECT_EQ(json["windows"][1], expected);
  EXPECT_TRUE(json["windows"][0]["same_source"].is_null());
  PerplexityRecord without = record();
  without.rows.resize(1);
  EXPECT_FALSE(to_json(without)["windows"][1].contains("other_document")) << "no row reads it";
}

TEST(Record, ValuesThatAreNotFiniteAreNull) {
  PerplexityRecord broken = record();
  broken.rows[0].perplexity = std::numeric_limits<double>::infinity();
  broken.rows[0].scored.nll[1] = std::numeric_limits<double>::quiet_NaN();
  broken.rows[1].change->value = std::numeric_limits<double>::quiet_NaN();
  const nlohmann::json json = to_json(broken);
  EXPECT_TRUE(json["rows"][0]["perplexity"].is_null());
  EXPECT_TRUE(json["rows"][0]["nll"][1].is_null());
  EXPECT_TRUE(json["rows"][1]["change"].is_null());
}

// The lines of a text that hold all the phrases.
int lines_with(const std::string& text, const std::vector<std::string>& phrases) {
  int count = 0;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    count += std::all_of(phrases.begin(), phrases.end(),
                         [&](const std::string& phrase) { return line.find(phrase) != std::string::npos; });
  }
  return count;
}

TEST(Record, TableHasGainsOverAsManyTokensInOneRow) {
  const std::string table = to_table(record());
  EXPECT_EQ(lines_with(table, {"own", "6,144", "-10.00 % +- 1.03", "-7.69 % +- 2.57"}), 1) << table;
  EXPECT_EQ(lines_with(table, {"other document", "6,144", "5.3 % +- 0.5", "3.7 % +- 0.8", "+1.56 % +- 0.26"}), 1);
  EXPECT_EQ(lines_with(table, {"other document", "30,720", "8.1 % +- 0.8", "-"}), 1);
  EXPECT_EQ(lines_with(table, {"same source", "6,144", "2.2 %", "2.0 %", "+0.16 %"}), 1);
  EXPECT_EQ(lines_with(table, {"full attention: other document", "20.25"}), 1);
  EXPECT_EQ(lines_with(table, {"Full attention is the frozen, untrained decoder"}), 1);
  EXPECT_EQ(lines_with(table, {"95 % interval", "fewer than 5 documents"}), 1);
  EXPECT_EQ(lines_with(table, {"books"}), 0) << "a single domain needs no column";
  PerplexityRecord two = record();
  two.rows.push_back(row("code", kOwn, 0, 3.9));
  EXPECT_THAT(to_table(two), HasSubstr("books"));
  PerplexityRecord plain = record();
  plain.rows.resize(2);
  plain.rows[1].reading_gain = plain.rows[1].same_source_gain = std::nullopt;
  EXPECT_EQ(lines_with(to_table(plain), {"gain"}), 0);
  EXPECT_EQ(lines_with(to_table(plain), {"ull attention"}), 0);
}

TEST(Record, TheLegendExplainsOnlyWhatTheTableHas) {
  PerplexityRecord few = record();
  few.rows.resize(2);
  few.rows[1].change = PairedEstimate{{-0.1, std::nullopt, std::nullopt}, 3, 3};
  few.rows[1].against_full_attention = few.rows[1].reading_gain = few.rows[1].same_source_gain = std::nullopt;
  few.rows[1].reading_gain_difference = few.rows[1].same_source_gain_difference = std::nullopt;
  EXPECT_EQ(lines_with(to_table(few), {"+-"}), 0) << to_table(few);
  EXPECT_EQ(lines_with(to_table(few), {"Fewer than 5 documents give no error bars."}), 1);
  few.rows.resize(1);
  EXPECT_EQ(lines_with(to_table(few), {"documents give"}), 0) << "nothing is compared";
}

TEST(Record, SentencesSayWhatTheNumbersMean) {
  const std::string text = to_sentences(record());
  EXPECT_THAT(text,
              HasSubstr("With 30,720 tokens of context through the encoder, perplexity falls from 20.00 to 17.00"));
  EXPECT_THAT(text, HasSubstr("on the last 256 tokens of 3 windows in 6 documents."));
  EXPECT_THAT(text, HasSubstr("reading gain over as much of another document of the domain is 8.1 % +- 0.8:"));
  EXPECT_THAT(text,
              HasSubstr("the frozen, untrained decoder with 6,144 tokens of context in its own window, gains "
                        "3.7 % +- 0.8 over another document of the domain (cepe: 5.3 % +- 0.5); 2.0 % over another "
                        "document of the same source (cepe: 2.2 %)."));
  PerplexityRecord short_one = record();
  short_one.rows.erase(short_one.rows.begin() + 2);
  EXPECT_THAT(to_sentences(short_one), HasSubstr("another document of the same source is 2.2 %: what this very text"));
  PerplexityRecord worse = record();
  worse.rows[2] = row("books", kOwn, 30720, 22);
  EXPECT_THAT(to_sentences(worse), HasSubstr("rises from 20.00 to 22.00 (+10.00 % +- 1.03)"));
  PerplexityRecord bare = record();
  bare.rows.resize(3);
  bare.rows[2].reading_gain = std::nullopt;
  EXPECT_THAT(to_sentences(bare), HasSubstr("only the controls other-document and same-source can tell"));
  bare.rows.resize(1);
  EXPECT_EQ(to_sentences(bare), "");
}

TEST(Record, PlotHasALineForEachReading) {
  const auto path = std::filesystem::path(testing::TempDir()) / "cepe-record.svg";
  write_plot(record(), path);
  const std::string svg = read_file(path);
  EXPECT_THAT(svg, HasSubstr("<svg"));
  EXPECT_THAT(svg, HasSubstr("own text through the encoder"));
  EXPECT_THAT(svg, HasSubstr("another document through the encoder: own text gains 8.1 % +- 0.8"));
  EXPECT_THAT(svg, HasSubstr("another document of the same source through the encoder"));
  EXPECT_THAT(svg, HasSubstr("the frozen, untrained decoder): gains 3.7 % +- 0.8 (domain), 2.0 % (source)"));
  EXPECT_THAT(svg, HasSubstr("change of perplexity against no context")) << "the same source has fewer windows";
  PerplexityRecord whole = record();
  whole.rows[5].scored.nll = whole.rows[1].scored.nll;
  write_plot(whole, path);
  EXPECT_THAT(read_file(path), HasSubstr("perplexity of the last 256 tokens"));
  PerplexityRecord two = record();
  two.rows.push_back(row("code", kOwn, 0, 3.9));
  two.rows.push_back(row("code", kOwn, 6144, 3.5));
  write_plot(two, path);
  EXPECT_THAT(read_file(path), HasSubstr("change of perplexity against no context"));
  std::filesystem::remove(path);
}

// The palette has seven colours.
TEST(Record, LinesOfOneColourDifferInTheirDashes) {
  PerplexityRecord many = record();
  many.rows.resize(3);
  for (int i = 1; i < 16; ++i) many.rows.push_back(row("books", {std::to_string(i), Control::own}, 6144, 18 + i));
  const auto path = std::filesystem::path(testing::TempDir()) / "cepe-lines.svg";
  write_plot(many, path);
  const std::string svg = read_file(path);
  std::filesystem::remove(path);
  std::map<std::string, int> strokes;  // of the lines and of their keys in the legend
  std::istringstream lines(svg);
  for (std::string line; std::getline(lines, line);) {
    const size_t at = line.find("stroke=\"#"), width = line.find(" stroke-width=");
    if (at == std::string::npos || width == std::string::npos) continue;
    const size_t dashes = line.find(" stroke-dasharray=");
    ++strokes[line.substr(at, 16) + (dashes == std::string::npos ? "" : line.substr(dashes))];
  }
  ASSERT_EQ(strokes.size(), 16u) << svg;
  for (const auto& [stroke, count] : strokes) EXPECT_EQ(count, 2) << stroke;
}

}  // namespace
}  // namespace cepe
