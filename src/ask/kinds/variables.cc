// What has to be gathered from all over a text: chains of variables, the most common words.
#include <algorithm>
#include <cmath>
#include <set>

#include "ask/kinds/draft.h"
#include "ask/sources/sentences.h"
#include "base/error.h"

namespace cepe {
namespace {

// How a variable {a} is set to a value or to another variable {b}.
struct Setting {
  const char *value, *variable;
};
constexpr Setting kSettings[] = {
    {"VAR {a} = {b}", "VAR {a} = VAR {b}"},
    {"VAR {a} = {b}", "VAR {a} = VAR {b}"},
    {"{a} = {b}", "{a} = {b}"},
    {"let {a} = {b};", "let {a} = {b};"},
    {"{a} := {b}", "{a} := {b}"},
    {"int {a} = {b};", "int {a} = {b};"},
    {"Let {a} be {b}.", "Let {a} be equal to {b}."},
    {"The variable {a} is set to {b}.", "The variable {a} gets the value of {b}."},
    {"{b} -> {a}", "{b} -> {a}"},
    {"set {a} {b}", "set {a} ${b}"},
    {"{a} was given {b}.", "{a} was given whatever {b} had."},
    {"MOV {a}, {b}", "MOV {a}, {b}"},
};
constexpr const char* kAll[] = {
    "Find all variables that are assigned the value {v} in the text above.",
    "Which variables have the value {v}?",
    "Name all variables that are equal to {v}.",
    "List every variable whose value is {v}.",
    "What are the names of the variables that hold {v}?",
};
constexpr const char* kOne[] = {
    "What is the value of {a}?",
    "Which number does {a} hold?",
    "What number is {a} in the end?",
};

std::string replaced(std::string text, std::string_view tag, const std::string& by) {
  for (size_t at = text.find(tag); at != std::string::npos; at = text.find(tag, at + by.size())) {
    text.replace(at, tag.size(), by);
  }
  return text;
}

struct Chain {
  std::vector<std::string> names;
  std::string value;
};

std::vector<Chain> draw_chains(const AskSources& sources, AskRandom& random, int64_t most) {
  const int64_t chains = random.log_between(1, std::clamp<int64_t>(most / 5, 1, 8));
  const int style = static_cast<int>(random.below(3));  // letters of RULER, words, short names
  std::vector<Chain> all;
  std::set<std::string> seen;
  while (static_cast<int64_t>(all.size()) < chains) {
    Chain chain{{}, std::to_string(random.between(10'000, 99'999))};
    if (!seen.insert(chain.value).second) continue;
    const int64_t hops = random.between(1, 6);
    while (static_cast<int64_t>(chain.names.size()) < hops) {
      std::string name;
      if (style == 0) {
        for (int i = 0; i < 5; ++i) name += static_cast<char>('A' + random.below(26));
      } else if (style == 1) {
        name = sources.words.draw("noun", random) + "_" + sources.words.draw("syllables2", random);
      } else {
        name = std::string(1, static_cast<char>('a' + random.below(26))) + std::to_string(random.between(1, 99));
      }
      if (seen.insert(name).second) chain.names.push_back(std::move(name));
    }
    all.push_back(std::move(chain));
  }
  return all;
}

// The statements of all chains, each chain's in its order.
std::vector<std::string> state_chains(const std::vector<Chain>& chains, AskRandom& random) {
  const Setting& setting = random.pick(kSettings);
  std::vector<size_t> turns, next(chains.size(), 0);
  for (size_t c = 0; c < chains.size(); ++c) turns.insert(turns.end(), chains[c].names.size(), c);
  random.shuffle(turns);
  std::vector<std::string> statements;
  for (const size_t c : turns) {
    const size_t i = next[c]++;
    const std::string form = i == 0 ? setting.value : setting.variable;
    const std::string from = i == 0 ? chains[c].value : chains[c].names[i - 1];
    statements.push_back(replaced(replaced(form, "{a}", chains[c].names[i]), "{b}", from));
  }
  return statements;
}

AskDraft make_chains(const AskSources& sources, AskRequest& request) {
  constexpr int64_t kTokens = 16;  // of a statement
  AskRandom& random = request.random;
  std::vector<Chain> chains = draw_chains(sources, random, std::max<int64_t>(request.tokens() / (2 * kTokens), 1));
  const std::vector<std::string> statements = state_chains(chains, random);
  AskDraft draft;
  const int64_t left = request.tokens() - static_cast<int64_t>(statements.size()) * kTokens;
  if (left > 60) draft.documents = draw_haystack(sources, request, left);
  hide_statements(draft.documents, statements, random);
  random.shuffle(chains);
  const bool ruler = random.chance(0.15);
  for (const Chain& chain : chains) {
    AskTurn turn{replaced(random.pick(kAll), "{v}", chain.value),
                 join_list(chain.names, random.chance(0.2) ? "and" : "")};
    if (ruler && draft.turns.empty()) {
      turn.question = replaced(kAll[0], "{v}", chain.value);
      turn.wording =
          "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n\nQuestion: " +
          turn.question;
      turn.answer_prefix = fmt::format(
          " Answer: According to the chain(s) of variable assignment in the text above, {} variables are assgined the "
          "value {}, they are:",
          chain.names.size(), chain.value);
      turn.answer = fmt::format("{}", fmt::join(chain.names, " "));
    }
    draft.turns.push_back(std::move(turn));
    if (random.chance(0.5)) {
      const std::string name = random.pick(chain.names);  // before the form, whatever order a compiler prefers
      draft.turns.push_back({replaced(random.pick(kOne), "{a}", name), chain.value});
    }
  }
  return draft;
}

// A list in which some words come more often than all others (RULER's cwe), or coded words whose counts fall with
// their rank (fwe).
AskDraft make_counts(const AskSources& sources, AskRequest& request) {
  AskRandom& random = request.random;
  const bool coded = random.chance(0.5);
  const int64_t common = coded ? 3 : random.pick(std::vector<int64_t>{3, 5, 10, 10});
  const int64_t words = std::max<int64_t>(request.tokens() * 9 / 10 / (coded ? 4 : 6), common * 8);
  std::vector<std::string> vocabulary;
  std::set<std::string> seen;
  const int64_t most = std::max<int64_t>(common + 2, std::min<int64_t>(words / 8, 120));
  for (int tries = 0; tries < 4000 && static_cast<int64_t>(vocabulary.size()) < most; ++tries) {
    std::string word;
    if (coded) {
      for (int i = 0; i < 6; ++i) word += static_cast<char>('a' + random.below(26));
    } else {
      word = sources.words.draw(random.chance(0.5) ? "noun" : "adjective", random);
    }
    if (seen.insert(word).second) vocabulary.push_back(std::move(word));
  }
  std::vector<std::string> list;
  const double zeta = 1.6449;  // of the squares
  for (size_t k = 0; k < vocabulary.size(); ++k) {
    const bool often = static_cast<int64_t>(k) < common;
    const double rank = static_cast<double>(k) + 2;  // as RULER, whose first rank is noise
    const int64_t rest = words / 2 / static_cast<int64_t>(vocabulary.size());
    const double count = coded   ? static_cast<double>(words) / (zeta * rank * rank)
                         : often ? static_cast<double>(words) / 2 / static_cast<double>(common)
                                 : static_cast<double>(rest);
    list.insert(list.end(), static_cast<size_t>(std::max(count, 1.0)), vocabulary[k]);
  }
  // The least common of those that are asked for must come more often than the next.
  const auto last = static_cast<size_t>(common) - 1;
  const auto count_of = [&](size_t k) { return std::count(list.begin(), list.end(), vocabulary[k]); };
  if (vocabulary.size() > last + 1 && count_of(last) <= count_of(last + 1)) return {};
  random.shuffle(list);
  std::string text;
  for (size_t i = 0; i < list.size(); ++i) text += (i ? " " : "") + (coded ? "" : fmt::format("{}. ", i + 1)) + list[i];
  const std::vector<std::string> answer(vocabulary.begin(), vocabulary.begin() + common);
  AskTurn turn;
  if (coded) {
    turn = {"What are the three most frequently appeared words in the above coded text?", join_list(answer, "")};
  } else {
    turn.question = fmt::format("What are the {} most common words in the above list?", common);
    for (size_t i = 0; i < answer.size(); ++i) turn.answer += fmt::format("{}{}. {}", i ? " " : "", i + 1, answer[i]);
  }
  return {.documents = {{"", std::move(text)}}, .turns = {std::move(turn)}};
}

}  // namespace

AskDraft make_variables(const AskSources& sources, AskRequest& request) {
  constexpr double kCounts = 0.15;
  return request.random.chance(kCounts) ? make_counts(sources, request) : make_chains(sources, request);
}

}  // namespace cepe
