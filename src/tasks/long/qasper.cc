#include "tasks/long/qasper.h"

#include "base/error.h"
#include "tasks/json_members.h"

namespace cepe {
namespace {

using nlohmann::json;

// [{"section_name", "paragraphs"}, ...], whichever of the two forms it is in.
std::vector<std::pair<std::string, json>> sections_of(const json& full_text, const std::string& where) {
  std::vector<std::pair<std::string, json>> sections;
  const auto name_of = [](const json& name) { return name.is_string() ? name.get<std::string>() : std::string(); };
  if (full_text.is_object()) {
    const json& names = json_list_of(full_text, "section_name", where);
    const json& paragraphs = json_list_of(full_text, "paragraphs", where);
    require(names.size() == paragraphs.size(),
            "{}: expected as many \"paragraphs\" as \"section_name\", found {} and {}", where, paragraphs.size(),
            names.size());
    for (size_t i = 0; i < names.size(); ++i) sections.emplace_back(name_of(names[i]), paragraphs[i]);
    return sections;
  }
  require(full_text.is_array(), "{}: expected \"full_text\" to be a JSON array or object, found a JSON {}", where,
          full_text.type_name());
  for (const json& section : full_text) {
    require(section.is_object() && section.contains("section_name"), "{}: expected sections with a \"section_name\"",
            where);
    sections.emplace_back(name_of(section["section_name"]), json_list_of(section, "paragraphs", where));
  }
  return sections;
}

std::string paper_text(const json& paper, const std::string& where) {
  std::string text = json_text_of(paper, "title", where) + "\n\n" + json_text_of(paper, "abstract", where);
  require(paper.contains("full_text"), "{}: \"full_text\" is missing", where);
  for (const auto& [name, paragraphs] : sections_of(paper["full_text"], where)) {
    text += "\n\n" + name;
    require(paragraphs.is_array(), "{}: expected \"paragraphs\" to be a JSON array, found a JSON {}", where,
            paragraphs.type_name());
    for (const json& paragraph : paragraphs) {
      require(paragraph.is_string(), "{}: expected paragraphs to be JSON strings, found a JSON {}", where,
              paragraph.type_name());
      text += "\n" + paragraph.get<std::string>();
    }
  }
  return text;
}

std::string answer_text(const json& answer, const std::string& where) {
  require(answer.is_object(), "{}: expected an answer to be a JSON object, found a JSON {}", where, answer.type_name());
  if (answer.value("unanswerable", json()) == json(true)) return "Unanswerable";
  if (answer.contains("extractive_spans") && answer["extractive_spans"].is_array()) {
    std::string text;
    for (const json& span : answer["extractive_spans"]) {
      require(span.is_string(), "{}: expected \"extractive_spans\" to hold JSON strings, found a JSON {}", where,
              span.type_name());
      text += (text.empty() ? "" : ", ") + span.get<std::string>();
    }
    if (!text.empty()) return text;
  }
  const json free = answer.value("free_form_answer", json()), yes = answer.value("yes_no", json());
  if (free.is_string() && !free.get<std::string>().empty()) return free.get<std::string>();
  require(yes.is_boolean(),
          "{}: expected an answer with \"unanswerable\", \"extractive_spans\", \"free_form_answer\" or \"yes_no\"",
          where);
  return yes.get<bool>() ? "Yes" : "No";
}

struct PaperQuestion {
  std::string id, text;
  const json* answers;  // a list
};

// Of the authors' files: [{"question", "question_id", "answers": [{"answer": {...}}]}].
PaperQuestion own_question(const json& qa, const std::string& where) {
  return {json_text_of(qa, "question_id", where), json_text_of(qa, "question", where),
          &json_list_of(qa, "answers", where)};
}

// Of rows: {"question": [...], "question_id": [...], "answers": [{"answer": [...]}]}.
PaperQuestion row_question(const json& qas, size_t i, const std::string& where) {
  const json& ids = json_list_of(qas, "question_id", where);
  const json& answers = json_list_of(qas, "answers", where);
  const json& texts = json_list_of(qas, "question", where);
  require(i < ids.size() && i < answers.size(), "{}: expected an id and answers for each question", where);
  require(ids[i].is_string() && texts[i].is_string(), "{}: expected question and id to be JSON strings", where);
  return {ids[i].get<std::string>(), texts[i].get<std::string>(), &json_list_of(answers[i], "answer", where)};
}

}  // namespace

void read_qasper(const LongRecord& record, LongSetBuilder& set, std::vector<std::string>& faults) {
  const auto& [form, value, place, file] = record;
  const std::string text = paper_text(value, place.where);
  require(value.contains("qas"), "{}: \"qas\" is missing", place.where);
  const json& qas = value["qas"];
  const bool rows = qas.is_object();
  const json& list = rows ? json_list_of(qas, "question", place.where) : json_list_of(value, "qas", place.where);
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string where = fmt::format("{}: qas[{}]", place.where, i);
    try {
      const PaperQuestion asked = rows ? row_question(qas, i, where) : own_question(list[i], where);
      LongQuestion question{asked.id, 0, asked.text, {}};
      for (const json& answer : *asked.answers) {
        const bool wrapped = answer.is_object() && answer.contains("answer");
        question.references.push_back(answer_text(wrapped ? answer["answer"] : answer, where));
      }
      LongKind kind = long_kind(LongMetric::f1);
      kind.max_tokens = 128;
      set.add({file, json_text_of(value, "title", where), text, kind, std::move(question)},
              fmt::format("{}, question {}", place.short_name, i), where);
    } catch (const Error& error) {
      faults.emplace_back(error.what());
    }
  }
}

}  // namespace cepe
