#include "tasks/long/long_forms.h"

#include <functional>

#include "base/error.h"
#include "tasks/json_members.h"
#include "tasks/long/benchmark_kinds.h"
#include "tasks/long/qasper.h"
#include "text/utf8.h"

namespace cepe {
namespace {

using nlohmann::json;

// Each of `count` questions by itself: one that is wrong does not take the others with it.
void each_question(size_t count, std::vector<std::string>& faults, const std::function<void(size_t)>& read) {
  for (size_t i = 0; i < count; ++i) {
    try {
      read(i);
    } catch (const Error& error) {
      faults.emplace_back(error.what());
    }
  }
}

// A text or a whole number under one of the names; empty where there is none.
std::string id_of(const json& record, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    const auto found = record.find(name);
    if (found == record.end()) continue;
    if (found->is_string()) return found->get<std::string>();
    if (found->is_number_integer()) return found->dump();
  }
  return "";
}

// ---- L-Eval

// "exam" is many things: options in the question, True or False, a number, else a few words.
LongKind leval_kind(const std::string& evaluation, LongQuestion& question) {
  if (evaluation == "rouge") return long_kind(LongMetric::rouge);
  if (evaluation != "exam") return long_kind(evaluation == "f1" ? LongMetric::f1 : LongMetric::rouge);
  std::string& reference = question.references.front();
  question.options = listed_options(question.question);
  if (!question.options.empty()) {
    const std::string letters = chosen_letters(reference, "ABCDEFGHIJ");
    if (!letters.empty()) reference = letters;
    return long_kind(LongMetric::choice);
  }
  for (const char* word : {"True", "False"}) {
    if (!reference.starts_with(word)) continue;
    question.options = {"True", "False"};
    reference = word;
    return long_kind(LongMetric::choice);
  }
  const bool number = reference.find_first_not_of("0123456789.,-$ ") == std::string::npos;
  return long_kind(number ? LongMetric::number : LongMetric::f1);
}

void read_leval(const LongRecord& record, LongSetBuilder& set, std::vector<std::string>& faults) {
  const auto& [form, value, place, file] = record;
  const std::string document = json_text_of(value, "input", place.where);
  const json& asked = json_list_of(value, "instructions", place.where);
  const json& right = json_list_of(value, "outputs", place.where);
  const std::string evaluation = json_text_of(value, "evaluation", place.where);
  require(asked.size() == right.size(), "{}: expected as many \"outputs\" as \"instructions\", found {} and {}",
          place.where, right.size(), asked.size());
  each_question(asked.size(), faults, [&](size_t i) {
    const std::string where = fmt::format("{}: instructions[{}]", place.where, i);
    require(asked[i].is_string() && right[i].is_string(), "{}: expected instruction and output to be JSON strings",
            where);
    LongQuestion question{"", 0, asked[i].get<std::string>(), {right[i].get<std::string>()}};
    const LongKind kind = leval_kind(evaluation, question);
    set.add({file, place.short_name, document, kind, std::move(question)},
            fmt::format("{}, instruction {}", place.short_name, i), where);
  });
}

// ---- LongBench

void read_longbench(const LongRecord& record, LongSetBuilder& set) {
  const auto& [form, value, place, file] = record;
  const std::string name = value.contains("dataset") ? json_text_of(value, "dataset", place.where) : file;
  const LongKind kind = longbench_kind(name, place.where);
  LongQuestion question{id_of(value, {"_id"}), 0, json_text_of(value, "input", place.where),
                        json_texts(json_list_of(value, "answers", place.where), "answers", place.where)};
  if (question.question.find_first_not_of(" \t\r\n") == std::string::npos) question.question = longbench_task(name);
  LongSetBuilder::Asked asked{name, question.id, json_text_of(value, "context", place.where), kind, question};
  const auto classes = value.find("all_classes");
  if (classes != value.end() && classes->is_array()) {
    asked.classes = json_texts(*classes, "all_classes", place.where);
  }
  set.add(std::move(asked), place.short_name, place.where);
}

void read_longbench_v2(const LongRecord& record, LongSetBuilder& set) {
  const auto& [form, value, place, file] = record;
  std::vector<std::string> options;
  for (const char* name : {"choice_A", "choice_B", "choice_C", "choice_D"}) {
    options.push_back(json_text_of(value, name, place.where));
  }
  LongQuestion question{id_of(value, {"_id"}),
                        0,
                        with_options(json_text_of(value, "question", place.where), options),
                        {json_text_of(value, "answer", place.where)},
                        option_letters(4)};
  const std::string name = question.id;
  set.add({file, name, json_text_of(value, "context", place.where), long_kind(LongMetric::choice), std::move(question)},
          place.short_name, place.where);
}

// ---- ZeroSCROLLS

// A text's bytes between two places that are counted in characters.
class Characters {
 public:
  explicit Characters(const std::string& text) : text_(text) {
    for (size_t at = 0; at < text.size(); at += code_point_at(text, at).size) places_.push_back(at);
    places_.push_back(text.size());
  }
  std::string between(int64_t first, int64_t end) const {
    return text_.substr(places_[static_cast<size_t>(first)],
                        places_[static_cast<size_t>(end)] - places_[static_cast<size_t>(first)]);
  }
  int64_t count() const { return static_cast<int64_t>(places_.size()) - 1; }

 private:
  const std::string& text_;
  std::vector<size_t> places_;
};

int64_t place_in(const json& value, const char* name, const std::string& where) {
  const auto found = value.find(name);
  require(found != value.end() && found->is_number_integer(), "{}: expected \"{}\" to be a whole number", where, name);
  return found->get<int64_t>();
}

void read_zeroscrolls(const LongRecord& record, LongSetBuilder& set) {
  const auto& [form, value, place, file] = record;
  const std::string input = json_text_of(value, "input", place.where);
  const Characters text(input);
  const int64_t begin = place_in(value, "document_start_index", place.where),
                end = place_in(value, "document_end_index", place.where),
                asked = place_in(value, "query_start_index", place.where),
                asked_end = place_in(value, "query_end_index", place.where);
  const bool ordered =
      0 <= begin && begin < end && end <= text.count() && 0 <= asked && asked <= asked_end && asked_end <= text.count();
  require(ordered, "{}: expected document and query within the {} characters of \"input\", found {} to {} and {} to {}",
          place.where, text.count(), begin, end, asked, asked_end);
  const auto output = value.find("output");
  require(output != value.end() && output->is_string(), "{}: the record has no \"output\": the test set's are secret",
          place.where);
  LongKind kind = zeroscrolls_kind(file, place.where);
  std::string own = text.between(asked, asked_end);
  if (own.find_first_not_of(" \t\r\n") == std::string::npos) own = "Summarize the text.";
  LongQuestion question{id_of(value, {"id"}), 0, own, {output->get<std::string>()}};
  if (kind.metric == LongMetric::choice) {
    question.options = listed_options(text.between(end, text.count()));
    const std::string letters = chosen_letters(question.references.front(), "ABCDEFGHIJ");
    if (!letters.empty()) question.references = {letters};
  }
  question.before = text.between(0, begin);
  question.after = text.between(end, text.count());
  set.add({file, id_of(value, {"pid", "id"}), text.between(begin, end), kind, std::move(question)}, place.short_name,
          place.where);
}

// ---- NarrativeQA, QuALITY, GovReport

void read_narrativeqa(const LongRecord& record, LongSetBuilder& set) {
  const auto& [form, value, place, file] = record;
  const json& document = json_member(value, "document", json::value_t::object, place.where);
  const json& asked = json_member(value, "question", json::value_t::object, place.where);
  LongQuestion question{"", 0, json_text_of(asked, "text", place.where), {}};
  for (const json& answer : json_list_of(value, "answers", place.where)) {
    question.references.push_back(json_text_of(answer, "text", place.where));
  }
  set.add({file, id_of(document, {"id"}), json_text_of(document, "text", place.where), long_kind(LongMetric::f1),
           std::move(question)},
          place.short_name, place.where);
}

void read_quality(const LongRecord& record, LongSetBuilder& set, std::vector<std::string>& faults) {
  const auto& [form, value, place, file] = record;
  const std::string article = json_text_of(value, "article", place.where);
  const json& questions = json_list_of(value, "questions", place.where);
  each_question(questions.size(), faults, [&](size_t i) {
    const std::string where = fmt::format("{}: questions[{}]", place.where, i);
    const std::string text = json_text_of(questions[i], "question", where);
    const std::vector<std::string> options = json_texts(json_list_of(questions[i], "options", where), "options", where);
    const int64_t label = place_in(questions[i], "gold_label", where);
    require(options.size() <= kMostOptions, "{}: expected at most {} \"options\", found {}", where, kMostOptions,
            options.size());
    require(label >= 1 && label <= static_cast<int64_t>(options.size()),
            "{}: expected \"gold_label\" to be from 1 to {}, the count of \"options\", found {}", where, options.size(),
            label);
    const std::vector<std::string> letters = option_letters(options.size());
    LongQuestion question{id_of(questions[i], {"question_unique_id"}),
                          0,
                          with_options(text, options),
                          {letters[static_cast<size_t>(label - 1)]},
                          letters};
    set.add({file, id_of(value, {"article_id"}), article, long_kind(LongMetric::choice), std::move(question)},
            fmt::format("{}, question {}", place.short_name, i), where);
  });
}

void read_govreport(const LongRecord& record, LongSetBuilder& set) {
  const auto& [form, value, place, file] = record;
  const char* name = value.contains("report") ? "report" : "document";
  LongQuestion question{
      id_of(value, {"id"}), 0, "Write a summary of the report.", {json_text_of(value, "summary", place.where)}};
  set.add({file, question.id, json_text_of(value, name, place.where), long_kind(LongMetric::rouge), question},
          place.short_name, place.where);
}

// ---- plain

void read_plain(const LongRecord& record, LongSetBuilder& set) {
  const auto& [form, value, place, file] = record;
  const char* name = value.contains("document") ? "document" : "context";
  LongQuestion question{id_of(value, {"id"}), 0, json_text_of(value, "question", place.where), {}};
  if (value.contains("answer")) {
    question.references = {json_text_of(value, "answer", place.where)};
  } else {
    question.references = json_texts(json_list_of(value, "answers", place.where), "answers", place.where);
  }
  LongKind kind = long_kind(LongMetric::f1);
  if (value.contains("options")) {
    const std::vector<std::string> options =
        json_texts(json_list_of(value, "options", place.where), "options", place.where);
    require(options.size() <= kMostOptions, "{}: expected at most {} \"options\", found {}", place.where, kMostOptions,
            options.size());
    question.question = with_options(question.question, options);
    question.options = option_letters(options.size());
    kind = long_kind(LongMetric::choice);
  }
  if (value.contains("metric")) {
    kind = long_kind(long_metric_from_name(json_text_of(value, "metric", place.where), place.where + ": \"metric\""));
  }
  const std::string id = question.id;
  set.add({file, id, json_text_of(value, name, place.where), kind, std::move(question)}, place.short_name, place.where);
}

std::string members_of(const json& record) {
  std::string names;
  for (const auto& [name, value] : record.items()) {
    if (names.size() > 200) return names + ", ...";
    names += fmt::format("{}\"{}\"", names.empty() ? "" : ", ", name);
  }
  return names.empty() ? "nothing" : names;
}

}  // namespace

LongForm long_form_of(const json& record, const std::string& where) {
  require(record.is_object(), "{}: expected a JSON object, found a JSON {}", where, record.type_name());
  const auto has = [&](const char* name) { return record.contains(name); };
  const auto is_object = [&](const char* name) { return has(name) && record[name].is_object(); };
  if (has("instructions") && has("outputs")) return LongForm::leval;
  if (has("choice_A")) return LongForm::longbench_v2;
  if (has("document_start_index")) return LongForm::zeroscrolls;
  if (has("full_text") && has("qas")) return LongForm::qasper;
  if (has("article") && has("questions")) return LongForm::quality;
  if (is_object("document") && is_object("question")) return LongForm::narrativeqa;
  if (has("summary") && (has("report") || has("document"))) return LongForm::govreport;
  if (has("context") && has("input") && has("answers")) return LongForm::longbench;
  if (has("question") && (has("document") || has("context"))) return LongForm::plain;
  fail("{}: expected a record in one of the forms that are read, found an object with {}", where, members_of(record));
}

void read_long_record(const LongRecord& record, LongSetBuilder& set, std::vector<std::string>& faults) {
  require(record.value.is_object(), "{}: expected a JSON object, found a JSON {}", record.place.where,
          record.value.type_name());
  switch (record.form) {
    case LongForm::leval: return read_leval(record, set, faults);
    case LongForm::longbench: return read_longbench(record, set);
    case LongForm::longbench_v2: return read_longbench_v2(record, set);
    case LongForm::zeroscrolls: return read_zeroscrolls(record, set);
    case LongForm::qasper: return read_qasper(record, set, faults);
    case LongForm::narrativeqa: return read_narrativeqa(record, set);
    case LongForm::quality: return read_quality(record, set, faults);
    case LongForm::govreport: return read_govreport(record, set);
    case LongForm::plain: return read_plain(record, set);
    case LongForm::automatic: break;
  }
  fail("{}: the form of the file is not known", record.place.where);
}

}  // namespace cepe
