#include "tasks/long/long_set_builder.h"

#include <algorithm>

#include "base/error.h"
#include "base/file.h"

namespace cepe {
namespace {

bool is_blank(const std::string& text) { return text.find_first_not_of(" \t\r\n\v\f") == std::string::npos; }

std::string listed(const std::vector<std::string>& options) {
  std::string text;
  for (const std::string& option : options) text += (text.empty() ? "" : ", ") + option;
  return text;
}

// Whether a reference is an option, or several letters of options together.
bool is_of(const std::string& reference, const std::vector<std::string>& options) {
  const auto known = [&](const std::string& text) {
    return std::find(options.begin(), options.end(), text) != options.end();
  };
  return known(reference) || (!reference.empty() && std::all_of(reference.begin(), reference.end(),
                                                                [&](char c) { return known(std::string(1, c)); }));
}

// Letters of several options, sorted, each once.
void sort_letters(LongQuestion& question) {
  for (std::string& reference : question.references) {
    const auto& options = question.options;
    if (options.empty() || std::find(options.begin(), options.end(), reference) != options.end()) continue;
    std::sort(reference.begin(), reference.end());
    reference.erase(std::unique(reference.begin(), reference.end()), reference.end());
  }
}

// What no answer could score above 0.
void check_metric(LongMetric metric, const LongQuestion& question, const std::vector<std::string>& classes,
                  const std::string& where) {
  const auto any = [&](const auto& holds) {
    return std::any_of(question.references.begin(), question.references.end(), holds);
  };
  require(metric != LongMetric::choice || !question.options.empty(),
          "{}: expected a question with options to choose from, found none", where);
  if (metric == LongMetric::number || metric == LongMetric::count) {
    require(any([](const std::string& r) { return r.find_first_of("0123456789") != std::string::npos; }),
            "{}: expected an answer with a number, for the score {}, found \"{}\"", where, long_metric_name(metric),
            question.references.front().substr(0, 60));
  }
  if (metric != LongMetric::classification) return;
  require(!classes.empty(), "{}: expected the names of all classes, for the score classification, found none", where);
  require(any([&](const std::string& r) { return std::find(classes.begin(), classes.end(), r) != classes.end(); }),
          "{}: expected the answer to be one of the {} classes, found \"{}\"", where, classes.size(),
          question.references.front().substr(0, 60));
}

void check(const LongQuestion& question, const std::string& document, const std::string& where) {
  require(!is_blank(document), "{}: the document has no text", where);
  require(!is_blank(question.question), "{}: the question is empty", where);
  require(!question.references.empty(), "{}: expected an answer, found none", where);
  for (const std::string& reference : question.references) {
    require(!is_blank(reference), "{}: an answer is empty", where);
    require(question.options.empty() || is_of(reference, question.options),
            "{}: expected the answer to be one of the options {}, found \"{}\"", where, listed(question.options),
            reference.substr(0, 60));
  }
}

}  // namespace

LongKind long_kind(LongMetric metric) {
  switch (metric) {
    case LongMetric::rouge: return {metric, 512, false};
    case LongMetric::choice: return {metric, 16, true};
    case LongMetric::number: return {metric, 512, false};
    case LongMetric::classification: return {metric, 64, true};
    case LongMetric::count: return {metric, 32, true};
    case LongMetric::similarity: return {metric, 64, false};
    default: return {LongMetric::f1, 64, true};
  }
}

void LongSetBuilder::add(Asked asked, const std::string& place, const std::string& where) {
  check(asked.question, asked.document, where);
  const LongMetric metric = metric_ != LongMetric::automatic ? metric_ : asked.kind.metric;
  const std::pair key(asked.set, metric);
  const auto found = known_.find(key);
  std::vector<std::string> classes =
      found == known_.end() ? std::vector<std::string>{} : sets_[found->second.place].classes;
  for (std::string& name : asked.classes) {
    if (std::find(classes.begin(), classes.end(), name) == classes.end()) classes.push_back(std::move(name));
  }
  check_metric(metric, asked.question, classes, where);
  if (metric == LongMetric::choice) sort_letters(asked.question);
  if (asked.question.id.empty()) asked.question.id = place;
  if (found == known_.end()) {
    const LongKind own = long_kind(metric), kind = metric == asked.kind.metric ? asked.kind : own;
    known_[key].place = sets_.size();
    sets_.push_back({asked.set,
                     form_,
                     metric,
                     kind.max_tokens > 0 ? kind.max_tokens : own.max_tokens,
                     kind.first_line,
                     {},
                     {},
                     {}});
  }
  Known& known = known_[key];
  LongSet& set = sets_[known.place];
  require(known.ids.insert(asked.question.id).second, "{}: the id \"{}\" is another question's", where,
          asked.question.id);
  set.classes = std::move(classes);
  const auto [document, fresh] = known.documents.emplace(sha256_bytes(asked.document), set.documents.size());
  if (fresh) {
    const std::string name = asked.document_name.empty() ? place : asked.document_name;
    set.documents.push_back({name, std::move(asked.document)});
  }
  // Answers of several lines are no first line.
  const std::vector<std::string>& references = asked.question.references;
  const auto is_long = [](const std::string& reference) { return reference.find('\n') != std::string::npos; };
  if (set.metric == LongMetric::f1 && std::any_of(references.begin(), references.end(), is_long))
    set.first_line = false;
  asked.question.document = document->second;
  set.questions.push_back(std::move(asked.question));
}

std::vector<LongSet> LongSetBuilder::finish() {
  std::map<std::string, int> names;
  for (const LongSet& set : sets_) ++names[set.name];
  for (LongSet& set : sets_) {
    if (names[set.name] > 1) set.name += fmt::format(" ({})", long_metric_name(set.metric));
  }
  return std::move(sets_);
}

std::vector<std::string> option_letters(size_t count) {
  std::vector<std::string> letters;
  for (size_t i = 0; i < count; ++i) letters.emplace_back(1, static_cast<char>('A' + i));
  return letters;
}

std::vector<std::string> listed_options(std::string_view question) {
  size_t count = 0;
  for (size_t at = 0; at < question.size() && count < 10;) {
    const size_t end = std::min(question.find('\n', at), question.size());
    std::string_view line = question.substr(at, end - at);
    line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
    const bool bracket = line.starts_with("(");
    if (bracket) line.remove_prefix(1);
    const bool next = line.size() > 1 && line.front() == static_cast<char>('A' + count);
    if (next && (bracket ? line[1] == ')' : std::string_view(".):").find(line[1]) != std::string_view::npos)) ++count;
    at = end + 1;
  }
  return count < 2 ? std::vector<std::string>{} : option_letters(count);
}

std::string with_options(std::string question, const std::vector<std::string>& options) {
  const std::vector<std::string> letters = option_letters(options.size());
  for (size_t i = 0; i < options.size(); ++i) question += fmt::format("\n{}. {}", letters[i], options[i]);
  return question;
}

}  // namespace cepe
