// Needles, lists, variables, recall, cloze: the answer worked out again from the text.
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>

#include "ask/ask_fixture.h"
#include "ask/sources/sentences.h"

namespace cepe {
namespace {

using ask_test::all_text;

std::vector<std::string> items(const std::string& answer) {
  static const std::regex separator(", | and ");
  return {std::sregex_token_iterator(answer.begin(), answer.end(), separator, -1), {}};
}

// The keys of a question: what has a digit or a hyphen in it.
std::vector<std::string> keys_of(const std::string& question) {
  std::vector<std::string> keys;
  std::istringstream words(question);
  for (std::string word; words >> word;) {
    while (!word.empty() && std::string_view(",.?:").find(word.back()) != std::string_view::npos) word.pop_back();
    if (word.find_first_of("-0123456789") != std::string::npos) keys.push_back(word);
  }
  return keys;
}

// Whether a part stands in a text with neither letter, digit nor hyphen beside it.
size_t whole_at(std::string_view text, const std::string& part) {
  const auto inside = [&](size_t at) {
    return at < text.size() && (std::isalnum(static_cast<unsigned char>(text[at])) || text[at] == '-');
  };
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
    const bool arrow = text.substr(at + part.size()).starts_with("->");
    if ((at == 0 || !inside(at - 1)) && (!inside(at + part.size()) || arrow)) return at;
  }
  return std::string::npos;
}

// A sentence or line says both; of several values of a key, these come in the order of the answer.
TEST(Needles, EveryValueStandsBesideItsKey) {
  const ask_test::Sources sources;
  size_t values_of_one = 0, several_keys = 0, ordered = 0, turns = 0, unclear = 0;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    AskRequest request = sources.request(seed, 1 + static_cast<int64_t>(seed % 16));
    const AskDraft draft = make_needles(sources.get(), request);
    const std::string text = all_text(draft);
    ASSERT_FALSE(draft.turns.empty());
    const auto place = [&](const std::string& key, const std::string& value) {
      for (const std::string_view piece : split_sentences(text)) {
        if (whole_at(piece, key) != std::string::npos && whole_at(piece, value) != std::string::npos)
          return static_cast<size_t>(piece.data() - text.data()) + whole_at(piece, value);
      }
      return std::string::npos;
    };
    for (const AskTurn& turn : draft.turns) {
      EXPECT_EQ(turn.question.find(" ,"), std::string::npos) << turn.question;
      const std::vector<std::string> keys = keys_of(turn.question), values = items(turn.answer);
      ++turns;
      if (keys.empty() || (keys.size() != 1 && keys.size() != values.size())) {  // "ICO 658 II", "yzJWPqBT"
        ++unclear;
        continue;
      }
      size_t last = 0;
      bool in_order = true;
      for (size_t v = 0; v < values.size(); ++v) {
        std::string value = values[v], key = keys[keys.size() == 1 ? 0 : v];
        if (const size_t colon = value.find(": "); colon != std::string::npos) {
          EXPECT_NE((" " + value.substr(0, colon) + " ").find(" " + key + " "), std::string::npos);
          value = value.substr(colon + 2);
        }
        const size_t at = place(key, value);
        ASSERT_NE(at, std::string::npos) << seed << " " << turn.question << " " << value;
        in_order = in_order && at >= last;
        last = at;
      }
      if (keys.size() == 1 && values.size() > 1) {
        ++values_of_one;
        ordered += in_order ? 1 : 0;
      }
      several_keys += keys.size() > 2 ? 1 : 0;
      if (keys.size() > 2) {
        EXPECT_NE(turn.question.find(", and " + keys.back()), std::string::npos) << turn.question;
      }
    }
  }
  EXPECT_LT(unclear, turns / 20);
  EXPECT_GT(values_of_one, 100u);
  EXPECT_GT(several_keys, 50u);
  // A value of one digit may stand in the same sentence as another key of the list.
  EXPECT_GT(ordered, values_of_one * 95 / 100);
}

// "a,b" is one cell only in quotes: every line of the CSV layouts has two.
TEST(Pairs, CellsOfCsvAreQuoted) {
  const ask_test::Sources sources;
  size_t lines = 0, quoted = 0;
  for (uint64_t seed = 0; seed < 1500; ++seed) {
    AskRequest request = sources.request(seed, 1);
    const AskDraft draft = make_pairs(sources.get(), request);
    for (const AskDocument& document : draft.documents) {
      if (!document.text.starts_with("key,value\n")) continue;
      std::istringstream text(document.text);
      for (std::string line; std::getline(text, line); ++lines) {
        size_t cells = 1;
        bool inside = false;
        for (const char c : line) {
          inside = inside != (c == '"');
          cells += c == ',' && !inside ? 1 : 0;
        }
        EXPECT_EQ(cells, 2u) << line;
        quoted += line.find('"') != std::string::npos ? 1 : 0;
      }
    }
  }
  EXPECT_GT(lines, 50u);
  EXPECT_GT(quoted, 3u);
}

// Layouts that are JSON are read as JSON, and the answers looked up.
TEST(Pairs, AnswersAreTheLists) {
  const ask_test::Sources sources;
  size_t read = 0, questions = 0;
  for (uint64_t seed = 0; seed < 500; ++seed) {
    AskRequest request = sources.request(seed, 1 + static_cast<int64_t>(seed % 8));
    const AskDraft draft = make_pairs(sources.get(), request);
    const std::string text = all_text(draft);
    for (const AskTurn& turn : draft.turns) {
      ASSERT_NE(text.find(turn.answer), std::string::npos) << turn.question;
    }
    for (const AskDocument& document : draft.documents) {
      const nlohmann::json list = nlohmann::json::parse(document.text, nullptr, false);
      if (!list.is_object()) continue;
      ++read;
      for (const AskTurn& turn : draft.turns) {
        std::set<std::string> right;
        // The key that the question names whole, the longest of them; or, the other way round, the value.
        size_t longest = 0;
        for (const auto& [key, value] : list.items()) {
          const std::string shown = value.get<std::string>();
          if (turn.question.find(key) != std::string::npos && key.size() >= longest) {
            if (key.size() > longest) right.clear();
            longest = key.size();
            right.insert(shown);
          }
          if (turn.question.find(shown) != std::string::npos) right.insert(key);
        }
        EXPECT_TRUE(right.contains(turn.answer)) << turn.question << " " << turn.answer;
        ++questions;
      }
    }
  }
  EXPECT_GT(read, 15u);
  EXPECT_GT(questions, 150u);
}

TEST(Variables, ChainsEndAtTheirValue) {
  const ask_test::Sources sources;
  size_t asked = 0;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    AskRequest request = sources.request(seed, 1 + static_cast<int64_t>(seed % 10));
    const AskDraft draft = make_variables(sources.get(), request);
    const std::string text = all_text(draft);
    if (text.find("VAR ") == std::string::npos) continue;
    // The statements in their order, evaluated.
    std::map<std::string, std::string> value;
    static const std::regex statement("VAR (\\S+) = (VAR )?(\\S+)");
    for (std::sregex_iterator it(text.begin(), text.end(), statement), end; it != end; ++it) {
      value[(*it)[1]] = (*it)[2].matched ? value[(*it)[3]] : (*it)[3].str();
    }
    for (const AskTurn& turn : draft.turns) {
      std::smatch number;
      ++asked;
      if (std::regex_search(turn.question, number, std::regex("\\d{5}"))) {
        std::set<std::string> expected, given;
        for (const auto& [name, v] : value) {
          if (v == number.str()) expected.insert(name);
        }
        std::istringstream names(std::regex_replace(turn.answer, std::regex(",| and "), " "));
        for (std::string name; names >> name;) given.insert(name);
        EXPECT_EQ(given, expected) << turn.question;
      } else {
        size_t right = 0;
        for (const auto& [name, v] : value) {
          right += v == turn.answer && turn.question.find(name) != std::string::npos ? 1 : 0;
        }
        EXPECT_GT(right, 0u) << turn.question << " " << turn.answer;
      }
    }
  }
  EXPECT_GT(asked, 60u);
}

TEST(Variables, CommonWordsAreTheMostCommon) {
  const ask_test::Sources sources;
  size_t asked = 0;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    AskRequest request = sources.request(seed, 4);
    const AskDraft draft = make_variables(sources.get(), request);
    if (draft.turns.empty()) continue;
    const std::string& question = draft.turns.front().question;
    const bool coded = question.find("coded") != std::string::npos;
    if (!coded && question.find("most common words") == std::string::npos) continue;
    ++asked;
    std::map<std::string, int64_t> counts;
    std::istringstream words(draft.documents.front().text);
    for (std::string word; words >> word;) {
      if (coded || word.back() != '.') ++counts[word];
    }
    std::istringstream answer(draft.turns.front().answer);
    std::set<std::string> given;
    int64_t least = INT64_MAX;
    for (std::string word; answer >> word;) {
      if (!coded && word.back() == '.') continue;
      if (word.back() == ',') word.pop_back();
      given.insert(word);
      least = std::min(least, counts.at(word));
    }
    for (const auto& [word, count] : counts) {
      EXPECT_TRUE(given.contains(word) || count < least) << word << " " << count << " " << least;
    }
  }
  EXPECT_GT(asked, 20u);
}

TEST(Recall, AnswersAreVerbatim) {
  const ask_test::Sources sources;
  size_t plain = 0, whole = 0, turns = 0;
  for (uint64_t seed = 0; seed < 150; ++seed) {
    AskRequest request = sources.request(seed, 1 + static_cast<int64_t>(seed % 12));
    const AskDraft draft = make_recall(sources.get(), request);
    std::string text;
    for (const AskDocument& document : draft.documents) text += document.text + "\n";
    for (const AskTurn& turn : draft.turns) {
      ++turns;
      EXPECT_NE(on_one_line(text).find(on_one_line(turn.answer)), std::string::npos) << turn.question;
      if (turn.answer == draft.documents[0].text) {
        ++whole;
        EXPECT_EQ(draft.documents[0].title, "");
      }
      if (!draft.plain) {
        EXPECT_EQ(turn.answer.find("\n\n"), std::string::npos) << turn.answer;
        continue;
      }
      ++plain;
      EXPECT_TRUE(turn.open);
      // The quotation and what follows it are one place of the text.
      EXPECT_NE(on_one_line(text).find(on_one_line(turn.wording + " " + turn.answer)), std::string::npos);
    }
  }
  EXPECT_GT(plain, 15u);
  EXPECT_GT(whole, 0u);
  EXPECT_GT(turns, 200u);
}

TEST(Cloze, TheAnswerFillsTheGap) {
  const ask_test::Sources sources;
  size_t gaps = 0, titles = 0;
  for (uint64_t seed = 0; seed < 80; ++seed) {
    AskRequest request = sources.request(seed, 4);
    const AskDraft draft = make_cloze(sources.get(), request);
    const std::string text = on_one_line(all_text(draft));
    for (const AskTurn& turn : draft.turns) {
      bool filled = false;
      for (const char* blank : {"_____", "____", "[...]", "...", "[blank]", "(?)", "(blank)"}) {
        const std::string& question = turn.question;
        const size_t size = std::string(blank).size();
        for (size_t at = question.find(blank); at != std::string::npos; at = question.find(blank, at + size)) {
          // The answer with what stands before and behind the gap is a part of the text.
          const std::string piece = question.substr(at > 4 ? at - 4 : 0, std::min<size_t>(at, 4)) + turn.answer +
                                    question.substr(at + size, 1);
          filled = filled || text.find(piece) != std::string::npos;
        }
      }
      if (filled) {
        ++gaps;
      } else {
        EXPECT_TRUE(draft.titles) << turn.question << " | " << turn.answer;
        EXPECT_TRUE(turn.answer.starts_with("Harbour House")) << turn.question << " | " << turn.answer;
        ++titles;
      }
    }
  }
  EXPECT_GT(gaps, 100u);
  EXPECT_GT(titles, 3u);
}

// Sentences that differ in the tower's name and number: the name has as many answers as there are towers, where the
// number is the same; the number has one.
TEST(Cloze, AGapThatTwoSentencesFitIsNotAskedFor) {
  const ask_test::Sources sources;
  const TemporaryDirectory directory;
  std::string text;
  for (const char* tower : {"Bergen", "Porto", "Lisbon", "Malmo", "Turku", "Narvik", "Bodo", "Molde"}) {
    text += fmt::format("The keeper of tower {} paid exactly 12 silver coins for it. ", tower);
  }
  const std::string line = nlohmann::json{{"text", text}}.dump() + "\n";
  const ShingleSet refused;
  const AskCorpus corpus({.files = {ask_test::write(directory, "towers.jsonl", line)}}, refused, ask_test::smollm2());
  const AskSources towers{sources.get().words, sources.get().forms, corpus, sources.get().questions,
                          sources.get().passages};
  size_t asked = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    AskRequest request = sources.request(seed, 1);
    for (const AskTurn& turn : make_cloze(towers, request).turns) {
      EXPECT_EQ(turn.answer, "12") << turn.question;
      ++asked;
    }
  }
  EXPECT_GT(asked, 20u);
}

}  // namespace
}  // namespace cepe
