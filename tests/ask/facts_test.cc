#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <regex>
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

// What the tags of a form stand for in a text that was made of it; nothing where it was not.
std::optional<std::map<char, std::string>> tags_of(const std::string& form, const std::string& text) {
  std::string part = lower(longest_part(form));
  if (part.ends_with(" a ")) part.pop_back();  // "an", before a vowel
  if (text.find(part) == std::string::npos) return std::nullopt;
  std::string pattern;
  std::vector<char> names;
  for (size_t i = 0; i < form.size(); ++i) {
    if (form[i] == '{') {
      if (pattern.ends_with(" a ")) pattern.insert(pattern.size() - 1, "n?");
      pattern += "(.+)";
      names.push_back(form[i + 1]);
      i += 2;
    } else {
      if (std::ispunct(static_cast<unsigned char>(form[i]))) pattern += '\\';
      pattern += form[i];
    }
  }
  std::smatch found;
  if (!std::regex_match(text, found, std::regex(lower(pattern)))) return std::nullopt;
  std::map<char, std::string> tags;
  for (size_t n = 0; n < names.size(); ++n) tags[names[n]] = found[n + 1];
  return tags;
}

// The question is taken apart by the forms of the relations; one of the relation's statements says of what it names
// what the answer is.
bool is_stated(const AskForms& forms, const AskTurn& turn, const std::string& text) {
  for (const AskRelation& relation : forms.relations) {
    for (const bool reverse : {false, true}) {
      for (const std::string& form : reverse ? relation.reverse_questions : relation.questions) {
        auto tags = tags_of(form, lower(turn.question));
        if (!tags) continue;
        (*tags)[reverse ? 'e' : 'v'] = lower(turn.answer);
        const AskFact fact{(*tags)['e'], (*tags)['v'], (*tags)['r']};
        for (const std::string& statement : relation.statements) {
          if (text.find(lower(fill_form(statement, fact))) != std::string::npos) return true;
        }
      }
    }
  }
  return false;
}

TEST(Facts, TheStatementIsInTheContext) {
  const ask_test::Sources sources;
  const AskForms& forms = sources.get().forms;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    AskRequest request = sources.request(seed, 8);
    const AskDraft draft = make_facts(sources.get(), request);
    for (const AskTurn& turn : draft.turns) {
      EXPECT_TRUE(is_stated(forms, turn, lower(all_text(draft)))) << turn.question << " " << turn.answer;
      ASSERT_TRUE(turn.document.has_value());
      EXPECT_TRUE(is_stated(forms, turn, lower(draft.documents.at(*turn.document).text))) << turn.question;
      AskTurn wrong = turn;
      wrong.answer = "nobody";
      EXPECT_FALSE(is_stated(forms, wrong, lower(all_text(draft))));
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
