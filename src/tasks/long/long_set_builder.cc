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
  const auto found = known_.find(asked.set);
  const LongMetric metric = metric_ != LongMetric::automatic ? metric_
                            : found == known_.end()          ? asked.kind.metric
                                                             : sets_[found->second.place].metric;
  require(metric != LongMetric::choice || !asked.question.options.empty(),
          "{}: expected a question with options to choose from, found none", where);
  if (asked.question.id.empty()) asked.question.id = place;
  if (found == known_.end()) {
    const LongKind own = long_kind(metric), kind = metric == asked.kind.metric ? asked.kind : own;
    known_[asked.set].place = sets_.size();
    sets_.push_back({asked.set,
                     form_,
                     metric,
                     kind.max_tokens > 0 ? kind.max_tokens : own.max_tokens,
                     kind.first_line,
                     {},
                     {},
                     {}});
  }
  Known& known = known_[asked.set];
  LongSet& set = sets_[known.place];
  require(known.ids.insert(asked.question.id).second, "{}: the id \"{}\" is another question's", where,
          asked.question.id);
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

void LongSetBuilder::add_classes(const std::string& set, const std::vector<std::string>& classes) {
  const auto found = known_.find(set);
  if (found == known_.end()) return;
  std::vector<std::string>& all = sets_[found->second.place].classes;
  for (const std::string& name : classes) {
    if (std::find(all.begin(), all.end(), name) == all.end()) all.push_back(name);
  }
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
