#include "tasks/questions/question_scores.h"

#include <utf8proc.h>

#include <algorithm>

#include "base/error.h"
#include "text/tokenizer/normalizer.h"
#include "text/utf8.h"

namespace cepe {

bool splits_words(char32_t c) { return is_white_space(c) || (c >= 0x1C && c <= 0x1F); }

namespace {

// The general category, as its first letter; S (symbols) is P for ASCII.
char category(char32_t c) {
  if (c >= 0x80) return utf8proc_category_string(static_cast<utf8proc_int32_t>(c))[0];
  if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return 'L';
  if (c >= '0' && c <= '9') return 'N';
  if (c == ' ') return 'Z';
  return c < ' ' || c == 0x7F ? 'C' : 'P';
}

bool is_ascii_punctuation(char32_t c) {
  return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
}

// \w of Python's re, but for the underscore, which is punctuation.
bool is_letter_or_number(char32_t c) { return category(c) == 'L' || category(c) == 'N'; }

// The words of a normalised answer. Articles go where they stand alone between signs that are neither letter nor
// number.
std::vector<std::string> answer_words(std::string_view text) {
  std::vector<std::string> words;
  std::string word, run;  // run: letters and numbers, which may turn out to be an article
  const auto end_word = [&] {
    if (!word.empty()) words.push_back(std::move(word));
    word.clear();
  };
  const auto end_run = [&] {
    if (run == "a" || run == "an" || run == "the") {
      end_word();
    } else {
      word += run;
    }
    run.clear();
  };
  const std::string lower = lower_case(text);
  for (size_t at = 0; at < lower.size();) {
    const CodePoint point = code_point_at(lower, at);
    at += point.size;
    if (is_ascii_punctuation(point.value)) continue;
    if (is_letter_or_number(point.value)) {
      append_utf8(point.value, run);
      continue;
    }
    end_run();
    if (splits_words(point.value)) {
      end_word();
    } else {
      append_utf8(point.value, word);
    }
  }
  end_run();
  end_word();
  return words;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

std::string decomposed(std::string_view text) {
  static const Normalizer decompose = [] {
    Normalizer made;
    made.add_unicode_form(Normalizer::Form::nfd);
    return made;
  }();
  std::string storage;
  return std::string(decompose.apply(text, storage));
}

// The pieces of DPR's SimpleTokenizer, [\p{L}\p{N}\p{M}]+ or one sign of [^\p{Z}\p{C}], each between line breaks, which
// are no pieces: "\nwho\nis\n?\n". One string is searched faster than a list of them.
std::string pieces_of(std::string_view text) {
  const bool ascii = std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
  const std::string lower = lower_case(ascii ? std::string(text) : decomposed(text));
  std::string pieces = "\n";
  pieces.reserve(lower.size() + lower.size() / 4);
  bool in_run = false;
  for (size_t at = 0; at < lower.size();) {
    const CodePoint point = code_point_at(lower, at);
    const char kind = category(point.value);
    const bool run = kind == 'L' || kind == 'N' || kind == 'M';
    if (in_run && !run) pieces += '\n';
    if (kind != 'Z' && kind != 'C') {
      pieces.append(lower, at, point.size);
      if (!run) pieces += '\n';
    }
    in_run = run;
    at += point.size;
  }
  if (in_run) pieces += '\n';
  return pieces;
}

double f1_of(const std::vector<std::string>& predicted, const std::vector<std::string>& reference) {
  if (predicted.empty() || reference.empty()) return predicted.empty() && reference.empty() ? 1 : 0;
  std::map<std::string_view, int64_t> left;
  for (const std::string& word : reference) ++left[word];
  int64_t same = 0;
  for (const std::string& word : predicted) {
    const auto found = left.find(word);
    if (found == left.end() || found->second == 0) continue;
    --found->second;
    ++same;
  }
  if (same == 0) return 0;
  const double precision = static_cast<double>(same) / static_cast<double>(predicted.size());
  const double recall = static_cast<double>(same) / static_cast<double>(reference.size());
  return 2 * precision * recall / (precision + recall);
}

bool is_yes_or_no(const std::string& text) { return text == "yes" || text == "no" || text == "noanswer"; }

Scores score_of(std::string_view prediction, const std::vector<std::string>& references,
                const QuestionScoring& scoring) {
  require(scoring.unanswerable || !references.empty(), "a score needs a reference, found none");
  const bool none = scoring.unanswerable && says_unanswerable(prediction);
  const std::vector<std::string> predicted = none ? std::vector<std::string>() : answer_words(prediction);
  const std::string text = joined(predicted);
  double exact = 0, f1 = 0;
  bool any = false;
  for (const std::string& reference : references) {
    const std::vector<std::string> words = answer_words(reference);
    if (scoring.unanswerable && words.empty()) continue;  // as SQuAD 2.0 has it: no reference at all
    any = true;
    const std::string right = joined(words);
    exact = std::max(exact, text == right ? 1.0 : 0.0);
    const bool zero = scoring.yes_no && text != right && (is_yes_or_no(text) || is_yes_or_no(right));
    if (!zero) f1 = std::max(f1, f1_of(predicted, words));
  }
  if (!any) exact = f1 = predicted.empty() ? 1 : 0;
  Scores scores = {{"em", exact}, {"f1", f1}};
  if (!references.empty()) scores["has_answer"] = AnswerFinder(references).found_in(prediction) ? 1 : 0;
  if (scoring.unanswerable) scores["unanswerable"] = none == references.empty() ? 1 : 0;
  return scores;
}

}  // namespace

std::string normalised_answer(std::string_view text) { return joined(answer_words(text)); }

AnswerFinder::AnswerFinder(const std::vector<std::string>& answers) {
  for (const std::string& answer : answers) {
    answers_.push_back(pieces_of(answer));
    if (answers_.back() == "\n") answers_.pop_back();
  }
}

bool AnswerFinder::found_in(std::string_view text) const {
  if (answers_.empty()) return false;
  const std::string pieces = pieces_of(text);
  return std::any_of(answers_.begin(), answers_.end(),
                     [&](const std::string& answer) { return pieces.find(answer) != std::string::npos; });
}

bool says_unanswerable(std::string_view prediction) {
  const std::vector<std::string> words = answer_words(prediction);
  return words.empty() || words.front() == "unanswerable" || joined(words) == "no answer";
}

Scorer question_scorer(const QuestionScoring& scoring) {
  return [scoring](std::string_view prediction, const std::vector<std::string>& references) {
    return score_of(prediction, references, scoring);
  };
}

}  // namespace cepe
