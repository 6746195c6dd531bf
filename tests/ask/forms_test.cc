#include "ask/sources/forms.h"

#include <gtest/gtest.h>

#include <set>

#include "ask/ask_fixture.h"
#include "base/error_of.h"

namespace cepe {
namespace {

using ask_test::write;

TEST(Forms, TheShippedOnesAreManyAndDiffer) {
  const AskWords words("configs/ask/words.txt");
  const AskForms forms = read_ask_forms("configs/ask/forms.txt", words);
  std::set<std::string> statements, held;
  for (const AskRelation& relation : forms.relations) {
    // The same words may say two things ("{e}: {v}"), but not of one relation.
    for (const std::string& form : relation.statements)
      EXPECT_TRUE(statements.insert(relation.name + form).second) << form;
    for (const std::string& form : relation.held_statements) EXPECT_TRUE(held.insert(form).second) << form;
  }
  for (const AskRelation& relation : forms.relations) {
    for (const std::string& form : relation.statements) EXPECT_FALSE(held.contains(form)) << form;
  }
  EXPECT_GE(held.size(), 200u);
  EXPECT_GE(statements.size(), 500u);
  EXPECT_GE(forms.relations.size(), 120u);
}

TEST(Forms, TagsAreFilled) {
  const AskFact fact{"the old oak", "ostrich", "pet"};
  EXPECT_EQ(fill_form("{e} keeps a {v}.", fact), "The old oak keeps an ostrich.");
  EXPECT_EQ(fill_form("The {r} of {e} is a {v}", fact), "The pet of the old oak is an ostrich");
  EXPECT_EQ(fill_form("{v} {v}", {"", "cat", ""}), "cat cat");
}

TEST(Forms, MalformedFilesAreRefusedByLine) {
  const AskWords words("configs/ask/words.txt");
  const TemporaryDirectory directory;
  const auto refused = [&](const std::string& text) {
    const std::string path = write(directory, "forms.txt", text);
    const std::string sentence = error_of([&] { read_ask_forms(path, words); });
    EXPECT_TRUE(sentence.starts_with(path)) << sentence;
    return sentence.substr(path.size());
  };
  const std::string good = "# phone P num\nS {e} has {v}.\nQ What has {e}?\n";
  EXPECT_EQ(refused("S {e} has {v}.\n"), ":1: a form before the first relation");
  EXPECT_EQ(refused("# phone P\n"), ":1: expected \"# name kind value\", found \"# phone P\"");
  EXPECT_EQ(refused("# phone P nothing\n"), ":1: there is no list of words \"nothing\"");
  EXPECT_EQ(refused("# phone P num\nS {e} has it.\n"), ":2: expected a form with {e} and {v}, found \"{e} has it.\"");
  EXPECT_EQ(refused(good + "R Who?\n"), ":4: expected a form with {v} and without {e}, found \"Who?\"");
  EXPECT_EQ(refused(good + "X {e} {v}\n"), ":4: expected S, H, Q, R or W, found \"X\"");
  EXPECT_EQ(refused(good + "S {e} has {v} of {x}.\n"), ":4: expected no tags but {e}, {v} and {r}, found \"{x}.\"");
  EXPECT_EQ(refused(good + "S The {r} of {e} is {v}.\n"),
            ":4: {r} in the relation phone, whose first question has none");
  EXPECT_EQ(refused(good + "plain\n"), ":4: expected S, H, Q, R or W and a space, found \"plain\"");
  EXPECT_EQ(refused(good + "W {s} {nothing}\n"), ":4: there is no list \"nothing\"");
  EXPECT_EQ(refused("# phone P num\nS {e} has {v}.\n" + good),
            ":1: the relation phone needs a statement (S) and a question (Q)");
  EXPECT_EQ(refused("#! phone P num\nS {e} has {v}.\n"),
            ":2: the relation phone is kept out of training and has only H");
}

TEST(Words, ListsAreAGrammar) {
  const TemporaryDirectory directory;
  const AskWords words(
      write(directory, "w.txt", "; a comment\n[a]\n3|{b}-{01-12}\n[b]\n{^c}{d3}\n[c]\nred\nblue\n[u]\n{uuid}\n"));
  std::set<std::string> seen;
  for (uint64_t i = 0; i < 200; ++i) {
    AskRandom random{i};
    const std::string text = words.draw("a", random);
    seen.insert(text);
    EXPECT_TRUE(text.starts_with("Red") || text.starts_with("Blue")) << text;
    EXPECT_EQ(text[text.size() - 3], '-') << text;
  }
  EXPECT_GT(seen.size(), 150u);
  AskRandom one{1}, other{1};
  EXPECT_EQ(words.draw("u", one), words.draw("u", other));
  EXPECT_EQ(words.draw("u", one).size(), 36u);
}

TEST(Words, MalformedFilesAreRefusedByLine) {
  const TemporaryDirectory directory;
  const auto refused = [&](const std::string& text) {
    const std::string path = write(directory, "w.txt", text);
    const std::string sentence = error_of([&] { AskWords words(path); });
    EXPECT_TRUE(sentence.starts_with(path)) << sentence;
    return sentence.substr(path.size());
  };
  EXPECT_EQ(refused("red\n"), ":1: expected \"[name]\" before the first entry, found \"red\"");
  EXPECT_EQ(refused("[a]\n[b]\nx\n"), ":1: the list a has no entry");
  EXPECT_EQ(refused("[a]\nx\n[a]\ny\n"), ":3: the list a is there twice");
  EXPECT_EQ(refused("[a]\n{b}\n"), ":2: there is no list \"b\"");
  EXPECT_EQ(refused("[a]\n{9-3}\n"), ":2: there is no list \"9-3\"");
  EXPECT_EQ(refused("[a]\nx {b\n"), ":2: a brace that is not closed in \"{b\"");
  EXPECT_EQ(refused("[a]\n{b}\n[b]\n{a}\n"), ":1: the list a holds itself");
}

}  // namespace
}  // namespace cepe
