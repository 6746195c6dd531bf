#include "tasks/long/porter_stemmer.h"

#include <algorithm>
#include <map>
#include <span>
#include <vector>

namespace cepe {
namespace {

bool is_vowel_letter(char c) { return c == 'a' || c == 'e' || c == 'i' || c == 'o' || c == 'u'; }

// Of each letter, whether it is a consonant: "y" is one at the beginning and after a vowel.
std::vector<bool> consonants(std::string_view word) {
  std::vector<bool> flags;
  flags.reserve(word.size());
  for (const char c : word) {
    if (c == 'y') {
      flags.push_back(flags.empty() || !flags.back());
    } else {
      flags.push_back(!is_vowel_letter(c));
    }
  }
  return flags;
}

// Porter's m: how often a consonant follows a vowel.
int measure(std::string_view stem) {
  const std::vector<bool> flags = consonants(stem);
  int count = 0;
  for (size_t i = 1; i < flags.size(); ++i) count += !flags[i - 1] && flags[i];
  return count;
}

bool has_vowel(std::string_view stem) {
  const std::vector<bool> flags = consonants(stem);
  return std::find(flags.begin(), flags.end(), false) != flags.end();
}

bool ends_with_double_consonant(std::string_view word) {
  return word.size() >= 2 && word.back() == word[word.size() - 2] && consonants(word).back();
}

// Porter's *o: consonant, vowel, consonant other than w, x and y; or a vowel and a consonant alone.
bool is_short_syllable(std::string_view word) {
  const std::vector<bool> flags = consonants(word);
  const size_t n = flags.size();
  if (n == 2) return !flags[0] && flags[1];
  if (n < 3) return false;
  const char last = word.back();
  return flags[n - 3] && !flags[n - 2] && flags[n - 1] && last != 'w' && last != 'x' && last != 'y';
}

bool replace_end(std::string& word, std::string_view ending, std::string_view by) {
  if (!word.ends_with(ending)) return false;
  word.resize(word.size() - ending.size());
  word += by;
  return true;
}

struct Rule {
  std::string_view ending, by;
};

// The first rule whose ending the word has is applied where the stem's measure is at least `least`.
void apply_first(std::string& word, std::span<const Rule> rules, int least) {
  for (const Rule& rule : rules) {
    if (!word.ends_with(rule.ending)) continue;
    const std::string_view stem = std::string_view(word).substr(0, word.size() - rule.ending.size());
    if (measure(stem) >= least) replace_end(word, rule.ending, rule.by);
    return;
  }
}

void plurals(std::string& word) {
  if (word.size() == 4 && replace_end(word, "ies", "ie")) return;
  if (replace_end(word, "sses", "ss") || replace_end(word, "ies", "i") || word.ends_with("ss")) return;
  replace_end(word, "s", "");
}

// What is left of a word without its "ed" or "ing".
void mend_stem(std::string& stem) {
  for (const Rule& rule : {Rule{"at", "ate"}, Rule{"bl", "ble"}, Rule{"iz", "ize"}}) {
    if (replace_end(stem, rule.ending, rule.by)) return;
  }
  if (ends_with_double_consonant(stem)) {
    const char last = stem.back();
    if (last != 'l' && last != 's' && last != 'z') stem.pop_back();
    return;
  }
  if (measure(stem) == 1 && is_short_syllable(stem)) stem += 'e';
}

void past_and_participle(std::string& word) {
  if (word.ends_with("ied")) {
    replace_end(word, "ied", word.size() == 4 ? "ie" : "i");
    return;
  }
  if (word.ends_with("eed")) {
    if (measure(std::string_view(word).substr(0, word.size() - 3)) > 0) word.pop_back();
    return;
  }
  for (const std::string_view ending : {"ed", "ing"}) {
    if (!word.ends_with(ending)) continue;
    if (!has_vowel(std::string_view(word).substr(0, word.size() - ending.size()))) return;
    replace_end(word, ending, "");
    mend_stem(word);
    return;
  }
}

void y_to_i(std::string& word) {
  if (word.size() < 3 || word.back() != 'y') return;
  if (consonants(word)[word.size() - 2]) word.back() = 'i';
}

void double_suffixes(std::string& word) {
  static constexpr Rule kRules[] = {{"ational", "ate"}, {"tional", "tion"}, {"enci", "ence"},   {"anci", "ance"},
                                    {"izer", "ize"},    {"bli", "ble"},     {"alli", "al"},     {"entli", "ent"},
                                    {"eli", "e"},       {"ousli", "ous"},   {"ization", "ize"}, {"ation", "ate"},
                                    {"ator", "ate"},    {"alism", "al"},    {"iveness", "ive"}, {"fulness", "ful"},
                                    {"ousness", "ous"}, {"aliti", "al"},    {"iviti", "ive"},   {"biliti", "ble"},
                                    {"fulli", "ful"}};
  // "alli" becomes "al", which the same step may shorten again.
  while (word.ends_with("alli") && measure(std::string_view(word).substr(0, word.size() - 4)) > 0) {
    replace_end(word, "alli", "al");
  }
  if (word.ends_with("logi")) {
    if (measure(std::string_view(word).substr(0, word.size() - 3)) > 0) word.pop_back();
    return;
  }
  apply_first(word, kRules, 1);
}

void short_suffixes(std::string& word) {
  static constexpr Rule kRules[] = {{"icate", "ic"}, {"ative", ""}, {"alize", "al"}, {"iciti", "ic"},
                                    {"ical", "ic"},  {"ful", ""},   {"ness", ""}};
  apply_first(word, kRules, 1);
}

void bare_stem(std::string& word) {
  static constexpr Rule kRules[] = {{"al", ""},   {"ance", ""}, {"ence", ""},  {"er", ""},   {"ic", ""},  {"able", ""},
                                    {"ible", ""}, {"ant", ""},  {"ement", ""}, {"ment", ""}, {"ent", ""}, {"ou", ""},
                                    {"ism", ""},  {"ate", ""},  {"iti", ""},   {"ous", ""},  {"ive", ""}, {"ize", ""}};
  if (word.ends_with("sion") || word.ends_with("tion")) {  // the s or t belongs to the stem that is measured
    if (measure(std::string_view(word).substr(0, word.size() - 3)) > 1) word.resize(word.size() - 3);
    return;
  }
  apply_first(word, kRules, 2);
}

void last_letters(std::string& word) {
  if (word.ends_with("e")) {
    const std::string_view stem = std::string_view(word).substr(0, word.size() - 1);
    const int m = measure(stem);
    if (m > 1 || (m == 1 && !is_short_syllable(stem))) word.pop_back();
  }
  if (word.ends_with("ll") && measure(std::string_view(word).substr(0, word.size() - 1)) > 1) word.pop_back();
}

}  // namespace

std::string porter_stem(std::string_view word) {
  static const std::map<std::string_view, std::string_view> kIrregular = {
      {"sky", "sky"},        {"skies", "sky"},       {"dying", "die"},        {"lying", "lie"},
      {"tying", "tie"},      {"news", "news"},       {"innings", "inning"},   {"inning", "inning"},
      {"outings", "outing"}, {"outing", "outing"},   {"cannings", "canning"}, {"canning", "canning"},
      {"howe", "howe"},      {"proceed", "proceed"}, {"exceed", "exceed"},    {"succeed", "succeed"}};
  if (const auto found = kIrregular.find(word); found != kIrregular.end()) return std::string(found->second);
  std::string stem(word);
  if (stem.size() <= 2) return stem;
  plurals(stem);
  past_and_participle(stem);
  y_to_i(stem);
  double_suffixes(stem);
  short_suffixes(stem);
  bare_stem(stem);
  last_letters(stem);
  return stem;
}

}  // namespace cepe
