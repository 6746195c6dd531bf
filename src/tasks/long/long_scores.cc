#include "tasks/long/long_scores.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "tasks/long/rouge.h"
#include "tasks/questions/question_scores.h"
#include "text/utf8.h"

namespace cepe {
namespace {

struct MetricName {
  LongMetric metric;
  const char *name, *main_score;
};
constexpr MetricName kMetrics[] = {
    {LongMetric::automatic, "auto", ""},        {LongMetric::f1, "f1", "f1"},
    {LongMetric::rouge, "rouge", "rougeL"},     {LongMetric::choice, "choice", "accuracy"},
    {LongMetric::number, "number", "accuracy"}, {LongMetric::classification, "classification", "classification"},
    {LongMetric::count, "count", "count"},      {LongMetric::similarity, "similarity", "similarity"}};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Runs of digits, as \d+ finds them in ASCII.
std::vector<std::string> digit_runs(std::string_view text) {
  std::vector<std::string> runs;
  for (size_t at = 0; at < text.size();) {
    size_t end = at;
    while (end < text.size() && is_digit(text[end])) ++end;
    if (end > at) runs.emplace_back(text.substr(at, end - at));
    at = std::max(end, at + 1);
  }
  return runs;
}

double count_score(std::string_view prediction, std::string_view reference) {
  const std::vector<std::string> numbers = digit_runs(prediction), right = digit_runs(reference);
  if (numbers.empty() || right.empty()) return 0;
  return static_cast<double>(std::count(numbers.begin(), numbers.end(), right.front())) /
         static_cast<double>(numbers.size());
}

double classification_score(std::string_view prediction, const std::string& reference,
                            const std::vector<std::string>& classes) {
  std::vector<std::string> found;
  for (const std::string& name : classes) {
    if (prediction.find(name) != std::string_view::npos) found.push_back(name);
  }
  // Names that are a part of the right one go; as in the original the one after such a name is not looked at.
  for (size_t i = 0; i < found.size(); ++i) {
    if (reference.find(found[i]) != std::string::npos && found[i] != reference) {
      found.erase(found.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
  const bool right = std::find(found.begin(), found.end(), reference) != found.end();
  return right ? 1.0 / static_cast<double>(found.size()) : 0;
}

// The first line without signs of comments and mark-up.
std::string_view first_code_line(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of('\n'), text.size()));
  while (true) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    const bool code = line.find_first_of("`#") == std::string_view::npos && line.find("//") == std::string_view::npos;
    if (code) return line;
    if (end == text.size()) return {};
    text.remove_prefix(end + 1);
  }
}

std::u32string characters(std::string_view text) {
  std::u32string out;
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = code_point_at(text, at);
    out += point.value;
    at += point.size;
  }
  return out;
}

// Of 1: twice the longest common subsequence over both lengths, to a whole percent.
double similarity_score(std::string_view prediction, std::string_view reference) {
  const std::u32string a = characters(first_code_line(prediction)), b = characters(reference);
  if (a.empty() && b.empty()) return 1;
  std::vector<size_t> before(b.size() + 1, 0), now(b.size() + 1, 0);
  for (const char32_t c : a) {
    for (size_t j = 1; j <= b.size(); ++j) now[j] = c == b[j - 1] ? before[j - 1] + 1 : std::max(before[j], now[j - 1]);
    std::swap(before, now);
  }
  const double ratio = 200.0 * static_cast<double>(before.back()) / static_cast<double>(a.size() + b.size());
  return std::nearbyint(ratio) / 100;
}

// The last number of a text without its commas, "1,200.50" as 1200.5; NaN where there is none.
double last_number(std::string_view text) {
  std::string number;
  const size_t last = text.find_last_of("0123456789");
  if (last == std::string_view::npos) return std::nan("");
  size_t first = last;
  while (first > 0 && (is_digit(text[first - 1]) || text[first - 1] == ',' || text[first - 1] == '.')) --first;
  while (!is_digit(text[first])) ++first;
  for (const char c : text.substr(first, last + 1 - first)) {
    if (c != ',') number += c;
  }
  const bool negative = first > 0 && text[first - 1] == '-';
  return (negative ? -1 : 1) * std::strtod(number.c_str(), nullptr);
}

template <typename Score>
double best_of(const std::vector<std::string>& references, const Score& score) {
  require(!references.empty(), "a score needs a reference, found none");
  double best = 0;
  for (const std::string& reference : references) best = std::max(best, static_cast<double>(score(reference)));
  return best;
}

Scores rouge_scores(std::string_view prediction, const std::vector<std::string>& references, bool stem) {
  Scores scores = google_rouge(prediction, references, stem);
  scores.merge(plain_rouge(prediction, references));
  return scores;
}

bool is_letter(char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }

// The letters at the beginning: "(C) because", "A, C and D", "ABD"; none of "And" and of "A dog".
std::string leading_letters(std::string_view text, std::string_view letters) {
  std::string all, unsure;  // letters without a sign behind them count where one that counts follows
  while (true) {
    text.remove_prefix(std::min(text.find_first_not_of("([* \n\t"), text.size()));
    const std::string_view chosen = text.substr(0, text.find_first_not_of(letters));
    text.remove_prefix(chosen.size());
    if (chosen.empty() || (!text.empty() && is_letter(text.front()))) return all;
    unsure += chosen;
    const size_t signs = std::min(text.find_first_not_of(")]*,.:;"), text.size());
    text.remove_prefix(signs);
    text.remove_prefix(std::min(text.find_first_not_of(" \n\t"), text.size()));
    if (signs > 0 || text.empty()) all += std::exchange(unsure, {});
    if (text.empty()) return all;
    if (text.starts_with("and ")) text.remove_prefix(4);
  }
}

bool chooses(std::string_view prediction, const std::string& right) {
  constexpr std::string_view kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  constexpr size_t kUsual = 10;  // the letters that are looked for where the right ones are among them
  const bool letters = right.find_first_not_of(kLetters) == std::string::npos;
  if (letters) {
    const size_t last = right.empty() ? 0 : static_cast<size_t>(*std::max_element(right.begin(), right.end()) - 'A');
    return chosen_letters(prediction, kLetters.substr(0, std::max(kUsual, last + 1))) == right;
  }
  prediction.remove_prefix(std::min(prediction.find_first_not_of(" \n\t"), prediction.size()));
  return lower_case(prediction).starts_with(lower_case(right));
}

}  // namespace

const char* long_metric_name(LongMetric metric) { return kMetrics[static_cast<size_t>(metric)].name; }
const char* main_score_of(LongMetric metric) { return kMetrics[static_cast<size_t>(metric)].main_score; }

LongMetric long_metric_from_name(std::string_view name, std::string_view option) {
  std::string names;
  for (const MetricName& known : kMetrics) {
    if (name == known.name) return known.metric;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", known.name);
  }
  fail("{}: expected one of {}, found \"{}\"", option, names, name);
}

std::string chosen_letters(std::string_view answer, std::string_view letters) {
  constexpr std::string_view kAsked = "he correct answer is ";
  std::string chosen;
  if (const size_t at = answer.find(kAsked); at != std::string_view::npos) {
    chosen = leading_letters(answer.substr(at + kAsked.size()), letters);
  }
  if (chosen.empty()) chosen = leading_letters(answer, letters);
  std::sort(chosen.begin(), chosen.end());
  chosen.erase(std::unique(chosen.begin(), chosen.end()), chosen.end());
  return chosen;
}

Scorer long_scorer(const LongScoring& scoring) {
  using References = std::vector<std::string>;
  switch (scoring.metric) {
    case LongMetric::automatic:
    case LongMetric::f1: return question_scorer({});
    case LongMetric::rouge:
      return [stem = scoring.stem](std::string_view prediction, const References& references) {
        return rouge_scores(prediction, references, stem);
      };
    case LongMetric::choice:
      return [](std::string_view prediction, const References& references) -> Scores {
        return {
            {"accuracy", best_of(references, [&](const std::string& right) { return chooses(prediction, right); })}};
      };
    case LongMetric::number:
      return [](std::string_view prediction, const References& references) -> Scores {
        const double answer = last_number(prediction);
        return {{"accuracy", best_of(references, [&](const std::string& r) { return answer == last_number(r); })}};
      };
    case LongMetric::classification:
      return [classes = scoring.classes](std::string_view prediction, const References& references) -> Scores {
        return {{"classification", best_of(references, [&](const std::string& right) {
                   return classification_score(prediction, right, classes);
                 })}};
      };
    case LongMetric::count:
      return [](std::string_view prediction, const References& references) -> Scores {
        return {{"count", best_of(references, [&](const std::string& r) { return count_score(prediction, r); })}};
      };
    case LongMetric::similarity:
      return [](std::string_view prediction, const References& references) -> Scores {
        return {
            {"similarity", best_of(references, [&](const std::string& r) { return similarity_score(prediction, r); })}};
      };
  }
  return {};
}

}  // namespace cepe
