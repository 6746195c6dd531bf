#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "ask/ask_fixture.h"
#include "ask/sources/sentences.h"

namespace cepe {
namespace {

using ask_test::all_text;

std::string lower(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

// The longest text between tags.
std::string longest_part(const std::string& form) {
  std::string best, part;
  bool tag = false;
  for (const char c : form + "{") {
    if (c == '{' || c == '}') {
      tag = c == '{';
      if (part.size() > best.size()) best = part;
      part.clear();
    } else if (!tag) {
      part += c;
    }
  }
  return best;
}

TEST(Facts, AnswersStandInTheContext) {
  const ask_test::Sources sources;
  size_t turns = 0;
  std::set<std::string> questions;
  for (uint64_t seed = 0; seed < 120; ++seed) {
    AskRequest request = sources.request(seed, 1 + static_cast<int64_t>(seed % 20));
    const AskDraft draft = make_facts(sources.get(), request);
    ASSERT_FALSE(draft.turns.empty());
    const std::string text = all_text(draft);
    std::set<std::string> own;
    for (const AskTurn& turn : draft.turns) {
      EXPECT_NE(lower(text).find(lower(turn.answer)), std::string::npos) << turn.question << " " << turn.answer;
      EXPECT_EQ(turn.question.find('{'), std::string::npos) << turn.question;
      EXPECT_TRUE(own.insert(turn.question).second) << "asked twice: " << turn.question;
      questions.insert(turn.question);
      ++turns;
    }
  }
  EXPECT_GT(turns, 500u);
  EXPECT_GT(questions.size(), turns * 95 / 100);
}

const std::set<std::string> kCommon = {"what", "which", "who",  "whom", "whose", "where", "when", "how",  "the", "for",
                                       "has",  "have",  "does", "did",  "was",   "are",   "and",  "this", "that"};

// Of the statement that a fact's entity stands in, the answer is a part: both within one sentence or two.
TEST(Facts, EntityAndValueStandTogether) {
  const ask_test::Sources sources;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    AskRequest request = sources.request(seed, 8);
    const AskDraft draft = make_facts(sources.get(), request);
    std::string text = lower(all_text(draft));
    for (const AskTurn& turn : draft.turns) {
      bool near = false;
      for (size_t at = text.find(lower(turn.answer)); at != std::string::npos && !near;
           at = text.find(lower(turn.answer), at + 1)) {
        const std::string around = text.substr(at > 220 ? at - 220 : 0, 440 + turn.answer.size());
        // The question's rarest words: any of more than three letters that stands near the answer.
        std::string word;
        int64_t found = 0;
        for (const char c : lower(turn.question) + " ") {
          if (std::isalnum(static_cast<unsigned char>(c))) {
            word += c;
          } else {
            found += word.size() > 2 && !kCommon.contains(word) && around.find(word) != std::string::npos ? 1 : 0;
            word.clear();
          }
        }
        near = found > 0;
      }
      EXPECT_TRUE(near) << turn.question << " " << turn.answer;
    }
  }
}

TEST(Facts, HeldFormsAreNotTrained) {
  const ask_test::Sources sources;
  const AskForms& forms = sources.get().forms;
  std::string trained, held;
  for (const AskRelation& relation : forms.relations) {
    for (const std::string& form : relation.statements) trained += form + "\n";
    for (const std::string& form : relation.questions) trained += form + "\n";
  }
  for (uint64_t seed = 0; seed < 400; ++seed) {
    AskRequest request = sources.request(seed, 6);
    const AskDraft draft = make_facts(sources.get(), request);
    for (const AskDocument& document : draft.documents) trained += document.text + "\n";
    AskRequest other = sources.request(seed, 6);
    other.held_forms = true;
    for (const AskDocument& document : make_facts(sources.get(), other).documents) held += document.text + "\n";
  }
  size_t seen = 0, checked = 0;
  for (const AskRelation& relation : forms.relations) {
    for (const std::string& form : relation.held_statements) {
      const std::string part = longest_part(form);
      if (part.size() < 12) continue;
      ++checked;
      EXPECT_EQ(trained.find(part), std::string::npos) << form;
      seen += held.find(part) != std::string::npos ? 1 : 0;
    }
  }
  EXPECT_GT(checked, 180u);
  EXPECT_GT(seen, checked * 8 / 10);  // 400 draws bring most of them
}

}  // namespace
}  // namespace cepe
