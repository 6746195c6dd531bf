// Tasks that gather words from all over a text: variable tracking, common words, frequent words.
#include <algorithm>
#include <cmath>
#include <numbers>
#include <set>

#include "base/error.h"
#include "tasks/recall_kinds.h"

namespace cepe {
namespace {

constexpr int64_t kShort = 4096;  // tokens; below, RULER's examples before the question are smaller

enum Purpose : uint64_t { kNames, kPlaces, kValues, kOrder, kShown };

std::string letters(KeyedRandom& random, int64_t count, char first) {
  std::string word;
  for (int64_t i = 0; i < count; ++i) word += static_cast<char>(first + random.below(26));
  return word;
}

// Distinct words of random letters.
std::vector<std::string> draw_words(KeyedRandom random, int64_t count, int64_t size, char first) {
  std::vector<std::string> words;
  std::set<std::string> seen;
  while (static_cast<int64_t>(words.size()) < count) {
    std::string word = letters(random, size, first);
    if (seen.insert(word).second) words.push_back(std::move(word));
  }
  return words;
}

// ---- vt: a chain of variables, each set to the one before, among lines of noise.

constexpr int64_t kHops = 4;  // RULER: one chain of four hops
constexpr const char* kSentences[] = {"The grass is green.", "The sky is blue.", "The sun is yellow.", "Here we go.",
                                      "There and back again."};

struct Chain {
  std::vector<std::string> names, pieces;
  std::string value;
};

// Lines of noise, or single sentences where there are too few lines for the chain's places.
std::vector<std::string> noise(int64_t lines) {
  std::vector<std::string> pieces;
  for (int64_t i = 0; i < lines; ++i) {
    std::string line;
    for (const char* sentence : kSentences) line += (line.empty() ? "" : " ") + std::string(sentence);
    if (lines > kHops + 1) {
      pieces.push_back(line + "\n ");
      continue;
    }
    for (const char* sentence : kSentences) pieces.push_back(std::string(sentence) + " ");
    pieces.back().back() = '\n';
  }
  return pieces;
}

Chain make_chain(const RecallKey& key, uint64_t purpose, int64_t letters_a_name, int64_t lines) {
  Chain chain;
  KeyedRandom value = key.random(purpose + kValues);
  chain.names = draw_words(key.random(purpose + kNames), kHops + 1, letters_a_name, 'A');
  chain.value = std::to_string(10'000 + value.below(89'999));
  chain.pieces = noise(lines);
  std::vector<int64_t> places =
      draw_distinct(key.random(purpose + kPlaces), kHops + 1, static_cast<int64_t>(chain.pieces.size()));
  std::sort(places.begin(), places.end());
  for (size_t i = places.size(); i-- > 0;) {
    const std::string set = i == 0 ? chain.value : "VAR " + chain.names[i - 1];
    chain.pieces.insert(chain.pieces.begin() + places[i], fmt::format("VAR {} = {} ", chain.names[i], set));
  }
  while (chain.pieces.back().ends_with(' ')) chain.pieces.back().pop_back();
  return chain;
}

void ask_for_variables(const Chain& chain, RecallText& text) {
  text.before = "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n";
  text.question = fmt::format("Find all variables that are assigned the value {} in the text above.", chain.value);
  text.after = "\nQuestion: " + text.question;
  // RULER's spelling of "assigned" is kept.
  text.answer_prefix = fmt::format(
      " Answer: According to the chain(s) of variable assignment in the text above, {} variables are assgined the "
      "value "
      "{}, they are: ",
      kHops + 1, chain.value);
}

// One solved example stands before: shorter names, some 500 tokens, as RULER has it.
RecallText make_tracking(const RecallKey& key, int64_t units) {
  const Chain shown = make_chain(key, kShown, 3, key.length >= kShort ? 10 : 1);
  const Chain chain = make_chain(key, 0, 5, units);
  RecallText text;
  ask_for_variables(shown, text);
  std::string example = text.before;
  for (const std::string& piece : shown.pieces) example += piece;
  example += text.after + text.answer_prefix;
  for (size_t i = 0; i < shown.names.size(); ++i) example += (i == 0 ? "" : " ") + shown.names[i];
  ask_for_variables(chain, text);
  text.before = example + "\n\n" + text.before;
  text.pieces = chain.pieces;
  text.references = chain.names;
  return text;
}

// ---- cwe: a numbered list in which ten words come more often than the others.

constexpr int64_t kCommon = 10;

struct WordList {
  std::vector<std::string> common, pieces;
};

struct Repeats {
  int64_t common, others;
};

// `units` different words; more than there are in the vocabulary: all repeats are multiplied instead.
WordList make_list(const std::vector<std::string>& vocabulary, const RecallKey& key, uint64_t purpose, int64_t units,
                   Repeats repeats) {
  const auto available = static_cast<int64_t>(vocabulary.size());
  const int64_t times = (units + available - 1) / available;
  const int64_t different = std::max(units / times, kCommon + 1);
  WordList list;
  std::vector<std::string> words;
  for (const int64_t w : draw_distinct(key.random(purpose + kNames), different, available)) {
    const std::string& word = vocabulary[static_cast<size_t>(w)];
    const bool common = static_cast<int64_t>(list.common.size()) < kCommon;
    if (common) list.common.push_back(word);
    words.insert(words.end(), static_cast<size_t>(times * (common ? repeats.common : repeats.others)), word);
  }
  shuffle(words, key.random(purpose + kOrder));
  for (size_t i = 0; i < words.size(); ++i) {
    list.pieces.push_back(fmt::format("{}. {}{}", i + 1, words[i], i + 1 < words.size() ? " " : ""));
  }
  return list;
}

RecallText make_common_words(const std::vector<std::string>& vocabulary, const RecallKey& key, int64_t units) {
  const bool small = key.length < kShort;
  const WordList shown = make_list(vocabulary, key, kShown, small ? 20 : 40, small ? Repeats{3, 1} : Repeats{10, 3});
  const WordList list = make_list(vocabulary, key, 0, units, small ? Repeats{6, 1} : Repeats{30, 3});
  RecallText text;
  text.question = "What are the 10 most common words in the above list?";
  text.after = "\nQuestion: " + text.question;
  text.answer_prefix = " Answer: The top 10 words that appear most often in the list are:";
  const std::string before =
      "Below is a numbered list of words. In these words, some appear more often than others. Memorize the ones that "
      "appear most often.\n";
  text.before = before;
  for (const std::string& piece : shown.pieces) text.before += piece;
  text.before += text.after + text.answer_prefix;
  for (size_t i = 0; i < shown.common.size(); ++i) {
    text.before += fmt::format("{}{}. {}", i == 0 ? "" : " ", i + 1, shown.common[i]);
  }
  text.before += "\n" + before;
  text.pieces = list.pieces;
  text.references = list.common;
  return text;
}

// ---- fwe: coded words with the frequencies of a zeta distribution.

// The word of rank k comes units * k^-2 / zeta(2) times, rounded down; the first is "...", the next three are asked
// for.
RecallText make_frequent_words(const RecallKey& key, int64_t units) {
  constexpr double kZeta = std::numbers::pi * std::numbers::pi / 6;
  const int64_t vocabulary = std::max<int64_t>(key.length / 50, 8);
  std::vector<std::string> words = draw_words(key.random(kNames), vocabulary, 6, 'a');
  words[0] = "...";
  RecallText text;
  for (int64_t k = 1; k <= vocabulary; ++k) {
    const double share = 1 / (kZeta * static_cast<double>(k * k));
    const auto count = static_cast<size_t>(static_cast<double>(units) * share);
    text.pieces.insert(text.pieces.end(), count, words[static_cast<size_t>(k - 1)]);
  }
  shuffle(text.pieces, key.random(kOrder));
  for (size_t i = 0; i + 1 < text.pieces.size(); ++i) text.pieces[i] += " ";
  text.before =
      "Read the following coded text and track the frequency of each coded word. Find the three most frequently "
      "appeared coded words. ";
  text.question =
      "Do not provide any explanation. Please ignore the dots '....'. What are the three most frequently appeared "
      "words "
      "in the above coded text?";
  text.after = "\nQuestion: " + text.question;
  text.answer_prefix = " Answer: According to the coded text above, the three most frequently appeared words are:";
  text.references = {words[1], words[2], words[3]};
  return text;
}

}  // namespace

std::vector<int64_t> draw_distinct(KeyedRandom random, int64_t count, int64_t n) {
  require(count >= 0 && count <= n, "a draw without replacement: expected at most {}, found {}", n, count);
  std::vector<int64_t> all(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) all[static_cast<size_t>(i)] = i;
  for (int64_t i = 0; i < count; ++i)
    std::swap(all[static_cast<size_t>(i)], all[static_cast<size_t>(i + random.below(n - i))]);
  all.resize(static_cast<size_t>(count));
  return all;
}

std::vector<RecallKind> word_kinds(const std::shared_ptr<const RecallData>& data) {
  const auto vocabulary = std::make_shared<std::vector<std::string>>();
  std::set<std::string> all;
  for (const auto* words : {&data->adjectives, &data->nouns, &data->verbs}) all.insert(words->begin(), words->end());
  vocabulary->assign(all.begin(), all.end());
  RecallKind tracking{.name = "vt", .max_tokens = 30, .make = make_tracking};
  RecallKind common{.name = "cwe", .max_tokens = 120, .least_units = kCommon + 2};
  if (vocabulary->size() < 40) common.missing = "word lists of 40 words or more";
  common.make = [vocabulary](const RecallKey& key, int64_t units) {
    return make_common_words(*vocabulary, key, units);
  };
  // 100: the fewest words of which the fourth rank still comes more often than the fifth.
  RecallKind frequent{.name = "fwe", .max_tokens = 50, .least_units = 100, .make = make_frequent_words};
  return {tracking, common, frequent};
}

}  // namespace cepe
