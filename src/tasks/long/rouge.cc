#include "tasks/long/rouge.h"

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "tasks/long/porter_stemmer.h"
#include "tasks/questions/question_scores.h"
#include "text/utf8.h"

namespace cepe {
namespace {

using Words = std::vector<std::string>;
using Pair = std::pair<std::string_view, std::string_view>;

// The greatest over the references, score by score.
template <typename Score>
Scores best_over(const std::vector<std::string>& references, const Score& score) {
  require(!references.empty(), "a score needs a reference, found none");
  Scores best;
  for (const std::string& reference : references) {
    for (const auto& [name, value] : score(reference)) {
      const auto [place, fresh] = best.emplace(name, value);
      if (!fresh) place->second = std::max(place->second, value);
    }
  }
  return best;
}

// ---- rouge-score

// Python's lower case of U+0130 is an "i" and a combining dot, which ends the word.
std::string python_lower_case(std::string_view text) {
  constexpr std::string_view kDotted = "\xC4\xB0", kLower = "i\xCC\x87";
  std::string lower;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find(kDotted, at), text.size());
    lower += lower_case(text.substr(at, end - at));
    if (end < text.size()) lower += kLower;
    at = end + kDotted.size();
  }
  return lower;
}

Words google_words(std::string_view text, bool stem) {
  Words words;
  std::string word;
  const auto end = [&] {
    if (word.size() > 3 && stem) word = porter_stem(word);
    if (!word.empty()) words.push_back(word);
    word.clear();
  };
  for (const char c : python_lower_case(text)) {
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) {
      word += c;
    } else {
      end();
    }
  }
  end();
  return words;
}

double f_measure(double common, double predicted, double reference) {
  const double precision = common / std::max(predicted, 1.0), recall = common / std::max(reference, 1.0);
  return precision + recall > 0 ? 2 * precision * recall / (precision + recall) : 0;
}

// Runs of n words, as texts: words hold no space.
std::map<std::string, int64_t> runs_of(const Words& words, size_t n) {
  std::map<std::string, int64_t> runs;
  for (size_t i = 0; i + n <= words.size(); ++i) {
    std::string run = words[i];
    for (size_t j = 1; j < n; ++j) run += ' ' + words[i + j];
    ++runs[run];
  }
  return runs;
}

double google_n(const Words& predicted, const Words& reference, size_t n) {
  const std::map<std::string, int64_t> ours = runs_of(predicted, n), theirs = runs_of(reference, n);
  int64_t common = 0;
  for (const auto& [run, count] : theirs) {
    if (const auto found = ours.find(run); found != ours.end()) common += std::min(count, found->second);
  }
  const auto runs = [n](const Words& words) {
    return words.size() < n ? 0.0 : static_cast<double>(words.size() - n + 1);
  };
  return f_measure(static_cast<double>(common), runs(predicted), runs(reference));
}

// Lengths of the longest common subsequences of all beginnings: [i][j] of the first i and j words.
class CommonLengths {
 public:
  CommonLengths(const Words& a, const Words& b) : columns_(b.size() + 1), lengths_((a.size() + 1) * columns_, 0) {
    for (size_t i = 1; i <= a.size(); ++i) {
      for (size_t j = 1; j <= b.size(); ++j) {
        at(i, j) = a[i - 1] == b[j - 1] ? at(i - 1, j - 1) + 1 : std::max(at(i - 1, j), at(i, j - 1));
      }
    }
  }
  uint32_t of(size_t i, size_t j) const { return lengths_[i * columns_ + j]; }
  uint32_t whole() const { return lengths_.back(); }

 private:
  uint32_t& at(size_t i, size_t j) { return lengths_[i * columns_ + j]; }
  size_t columns_;
  std::vector<uint32_t> lengths_;
};

double google_l(const Words& predicted, const Words& reference) {
  if (predicted.empty() || reference.empty()) return 0;
  return f_measure(CommonLengths(reference, predicted).whole(), static_cast<double>(predicted.size()),
                   static_cast<double>(reference.size()));
}

// ---- rouge

// A sentence of white space alone is one empty word, as the package has it.
std::vector<Words> sentences_of(std::string_view text) {
  std::vector<Words> sentences;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('.', begin), text.size());
    const std::string_view sentence = text.substr(begin, end - begin);
    begin = end + 1;
    if (sentence.empty()) continue;
    Words words(1);
    for (size_t at = 0; at < sentence.size();) {
      const CodePoint point = code_point_at(sentence, at);
      if (!splits_words(point.value)) {
        words.back() += sentence.substr(at, point.size);
      } else if (!words.back().empty()) {
        words.emplace_back();
      }
      at += point.size;
    }
    if (words.size() > 1 && words.back().empty()) words.pop_back();
    sentences.push_back(std::move(words));
  }
  return sentences;
}

Words joined(const std::vector<Words>& sentences) {
  Words words;
  for (const Words& sentence : sentences) words.insert(words.end(), sentence.begin(), sentence.end());
  return words;
}

double plain_f(size_t common, size_t predicted, size_t reference) {
  const double precision = predicted == 0 ? 0 : static_cast<double>(common) / static_cast<double>(predicted);
  const double recall = reference == 0 ? 0 : static_cast<double>(common) / static_cast<double>(reference);
  return 2 * precision * recall / (precision + recall + 1e-8);
}

template <typename T>
double plain_overlap(const std::set<T>& predicted, const std::set<T>& reference) {
  const auto common =
      std::count_if(predicted.begin(), predicted.end(), [&](const T& x) { return reference.contains(x); });
  return plain_f(static_cast<size_t>(common), predicted.size(), reference.size());
}

std::set<Pair> pairs_of(const Words& words) {
  std::set<Pair> pairs;
  for (size_t i = 0; i + 1 < words.size(); ++i) pairs.emplace(words[i], words[i + 1]);
  return pairs;
}

// The words of one longest common subsequence: of several the one that the package finds.
void add_common(const Words& reference, const Words& predicted, std::set<std::string_view>& words) {
  const CommonLengths lengths(reference, predicted);
  for (size_t i = reference.size(), j = predicted.size(); i > 0 && j > 0;) {
    if (reference[i - 1] == predicted[j - 1]) {
      words.insert(reference[i - 1]);
      --i;
      --j;
    } else if (lengths.of(i - 1, j) > lengths.of(i, j - 1)) {
      --i;
    } else {
      --j;
    }
  }
}

Scores plain_of(const std::vector<Words>& predicted, const std::vector<Words>& reference) {
  if (predicted.empty() || reference.empty()) return {{"rouge-1", 0}, {"rouge-2", 0}, {"rouge-l", 0}};
  const Words ours = joined(predicted), theirs = joined(reference);
  const std::set<std::string_view> our_words(ours.begin(), ours.end()), their_words(theirs.begin(), theirs.end());
  std::set<std::string_view> common;
  for (const Words& right : reference) {
    for (const Words& sentence : predicted) add_common(right, sentence, common);
  }
  return {{"rouge-1", plain_overlap(our_words, their_words)},
          {"rouge-2", plain_overlap(pairs_of(ours), pairs_of(theirs))},
          {"rouge-l", plain_f(common.size(), our_words.size(), their_words.size())}};
}

}  // namespace

Scores google_rouge(std::string_view prediction, const std::vector<std::string>& references, bool stem) {
  const Words predicted = google_words(prediction, stem);
  return best_over(references, [&](const std::string& reference) -> Scores {
    const Words words = google_words(reference, stem);
    return {{"rouge1", google_n(predicted, words, 1)},
            {"rouge2", google_n(predicted, words, 2)},
            {"rougeL", google_l(predicted, words)}};
  });
}

Scores plain_rouge(std::string_view prediction, const std::vector<std::string>& references) {
  const std::vector<Words> predicted = sentences_of(prediction);
  return best_over(references,
                   [&](const std::string& reference) { return plain_of(predicted, sentences_of(reference)); });
}

}  // namespace cepe
