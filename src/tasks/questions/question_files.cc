#include "tasks/questions/question_files.h"

#include <set>

#include "base/error.h"
#include "tasks/json_members.h"
#include "tasks/json_records.h"
#include "tasks/questions/question_set.h"
#include "tasks/questions/triviaqa.h"
#include "text/text_file.h"

namespace cepe {
namespace {

using nlohmann::json;

bool is_true(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && *found == json(true);
}

// "id": a string or a number.
std::string id_of(const json& object, const std::string& where) {
  const auto found = object.find("id");
  if (found == object.end() || found->is_null()) return "";
  require(found->is_string() || found->is_number_integer(),
          "{}: expected \"id\" to be a JSON string or a whole number, found a JSON {}", where, found->type_name());
  return found->is_string() ? found->get<std::string>() : found->dump();
}

std::vector<std::string> answers_of(const json& object, const char* name, const std::string& where) {
  std::vector<std::string> answers = json_texts(json_list_of(object, name, where), name, where);
  require(!answers.empty(), "{}: expected \"{}\" to hold an answer, found none", where, name);
  return answers;
}

// Passages {"title", "text"}; those whose member `gold` is true are gold.
void add_passages(const json& list, const char* gold, const std::string& where, QuestionSetBuilder& set,
                  OpenQuestion& question) {
  for (const json& passage : list) {
    std::string text = json_text_of(passage, "text", where), title = json_optional_text(passage, "title", where);
    question.passages.push_back(set.add({title, std::move(text), title}, where));
    if (is_true(passage, gold)) question.gold.push_back(question.passages.back());
  }
}

// ---- records: an object for each question

void read_dpr(const json& record, const RecordPlace& place, QuestionSetBuilder& set) {
  OpenQuestion question{id_of(record, place.where), json_text_of(record, "question", place.where),
                        answers_of(record, "answers", place.where)};
  add_passages(json_list_of(record, "ctxs", place.where), "isgold", place.where, set, question);
  set.add(std::move(question), place.short_name, place.where);
}

bool divisible_by_five(const std::string& hexadecimal, const std::string& where) {
  int remainder = 0;
  for (const char c : hexadecimal) {
    const size_t digit = std::string_view("0123456789abcdef").find(c);
    require(digit != std::string_view::npos, "{}: expected \"_id\" to be hexadecimal, found \"{}\"", where,
            hexadecimal);
    remainder = (remainder * 16 + static_cast<int>(digit)) % 5;
  }
  return remainder == 0;
}

std::set<std::string> supporting_titles(const json& record, const std::string& where) {
  std::set<std::string> titles;
  if (!record.contains("supporting_facts")) return titles;  // the test set has none
  for (const json& fact : json_list_of(record, "supporting_facts", where)) {
    require(fact.is_array() && !fact.empty() && fact[0].is_string(),
            "{}: expected \"supporting_facts\" to hold pairs of a title and a sentence's number", where);
    titles.insert(fact[0].get<std::string>());
  }
  return titles;
}

void read_hotpotqa(const json& record, const RecordPlace& place, QuestionChoice::HotpotQa part,
                   QuestionSetBuilder& set) {
  const std::string& where = place.where;
  const bool training = part == QuestionChoice::HotpotQa::training;
  if (training && divisible_by_five(json_text_of(record, "_id", where), where)) return;
  OpenQuestion question{"", json_text_of(record, "question", where), {json_text_of(record, "answer", where)}};
  const std::set<std::string> titles = supporting_titles(record, where);
  for (const json& passage : json_list_of(record, "context", where)) {
    const bool pair = passage.is_array() && passage.size() == 2 && passage[0].is_string() && passage[1].is_array();
    require(pair, "{}: expected \"context\" to hold pairs of a title and its sentences", where);
    std::string title = passage[0].get<std::string>(), text;
    for (const json& sentence : passage[1]) {
      require(sentence.is_string(), "{}: expected sentences to be strings, found a JSON {}", where,
              sentence.type_name());
      text += sentence.get<std::string>();
    }
    question.passages.push_back(set.add({title, std::move(text), title}, where));
    if (titles.contains(title)) question.gold.push_back(question.passages.back());
  }
  question.id = json_text_of(record, "_id", where);
  if (training || divisible_by_five(question.id, where)) set.add(std::move(question), place.short_name, where);
}

// The answers are a list, or in the original table's manner a list as a text.
void read_popqa(const json& record, const RecordPlace& place, QuestionSetBuilder& set) {
  json object = record;
  if (const auto text = object.find("possible_answers"); text != object.end() && text->is_string()) {
    *text = json::parse(text->get<std::string>(), nullptr, false);
    require(text->is_array(), "{}: expected \"possible_answers\" to hold a list of answers, found another text",
            place.where);
  }
  OpenQuestion question{id_of(object, place.where), json_text_of(object, "question", place.where),
                        answers_of(object, "possible_answers", place.where)};
  if (object.contains("paragraphs")) {
    add_passages(json_list_of(object, "paragraphs", place.where), "is_supporting", place.where, set, question);
  }
  set.add(std::move(question), place.short_name, place.where);
}

void read_nq_open(const json& record, const RecordPlace& place, QuestionSetBuilder& set) {
  set.add({id_of(record, place.where), json_text_of(record, "question", place.where),
           answers_of(record, "answer", place.where)},
          place.short_name, place.where);
}

void read_flashrag(const json& record, const RecordPlace& place, QuestionSetBuilder& set) {
  set.add({id_of(record, place.where), json_text_of(record, "question", place.where),
           answers_of(record, "golden_answers", place.where)},
          place.short_name, place.where);
}

std::vector<std::string> plain_answers(const json& record, const std::string& where) {
  const bool several = record.contains("answers");
  const char* name = several ? "answers" : "answer";
  const auto found = record.find(name);
  require(found != record.end(), "{}: \"answers\" is missing", where);
  if (!several && found->is_string()) return {found->get<std::string>()};
  return json_texts(*found, name, where);
}

void read_plain(const json& record, const RecordPlace& place, QuestionSetBuilder& set) {
  const std::string& where = place.where;
  OpenQuestion question{id_of(record, where), json_text_of(record, "question", where), plain_answers(record, where)};
  // Files that gather several data sets number each by itself.
  const std::string dataset = json_optional_text(record, "dataset", where);
  if (!dataset.empty() && !question.id.empty()) question.id = dataset + "/" + question.id;
  if (record.contains("context")) {
    question.passages = question.gold = {set.add({"", json_text_of(record, "context", where), ""}, where)};
  }
  const char* name = record.contains("documents") ? "documents" : "passages";
  std::vector<size_t> documents;
  if (record.contains(name)) {
    for (const json& passage : json_list_of(record, name, where)) {
      const bool text = passage.is_string();
      const std::string title = text ? "" : json_optional_text(passage, "title", where);
      documents.push_back(
          set.add({title, text ? passage.get<std::string>() : json_text_of(passage, "text", where), title}, where));
    }
  }
  question.passages.insert(question.passages.end(), documents.begin(), documents.end());
  if (record.contains("gold")) {
    for (const json& index : json_list_of(record, "gold", where)) {
      const bool there = index.is_number_unsigned() && index.get<uint64_t>() < documents.size();
      require(there, "{}: expected \"gold\" to hold numbers below {}, the count of \"{}\", found {}", where,
              documents.size(), name, index.dump());
      question.gold.push_back(documents[index.get<size_t>()]);
    }
  }
  set.add(std::move(question), place.short_name, where);
}

// An answer that a model wrote by itself: all of it, or nothing.
void read_answered(const json& record, const RecordPlace& place, QuestionSetBuilder& set) {
  const std::string& where = place.where;
  const json& asked = json_member(record, "id", json::value_t::object, where);
  if (record.contains("error")) return;
  const std::string text = json_text_of(record, "text", where), reason = json_text_of(record, "stop_reason", where);
  const size_t first = text.find_first_not_of(" \t\r\n");
  if (reason == "max_tokens" || reason == "window" || first == std::string::npos) return;
  const std::string answer = text.substr(first, text.find_last_not_of(" \t\r\n") + 1 - first);
  OpenQuestion question{"", json_text_of(asked, "question", where), {answer}};
  add_passages(json_list_of(asked, "passages", where), "", where, set, question);
  question.gold = question.passages;
  question.instruction = json_optional_text(asked, "instruction", where);
  set.add(std::move(question), place.short_name, where);
}

// ---- files that are one object

void read_squad_paragraph(const json& paragraph, const std::string& article, const std::string& where,
                          QuestionSetBuilder& set) {
  const size_t passage = set.add({"", json_text_of(paragraph, "context", where), article}, where);
  for (const json& qa : json_list_of(paragraph, "qas", where)) {
    set.guarded([&] {
      OpenQuestion question{id_of(qa, where), json_text_of(qa, "question", where)};
      for (const json& answer : json_list_of(qa, "answers", where)) {
        question.answers.push_back(json_text_of(answer, "text", where));
      }
      if (is_true(qa, "is_impossible")) question.answers.clear();
      question.passages = question.gold = {passage};
      set.add(std::move(question), fmt::format("qas {}", set.questions()), where);
    });
  }
}

void read_squad(const json& file, const std::string& path, QuestionSetBuilder& set) {
  const json& articles = json_list_of(file, "data", path);
  for (size_t a = 0; a < articles.size(); ++a) {
    const std::string where = fmt::format("{}: data[{}]", path, a);
    set.guarded([&] {
      const json& paragraphs = json_list_of(articles[a], "paragraphs", where);
      const std::string title = json_optional_text(articles[a], "title", where);
      for (size_t p = 0; p < paragraphs.size(); ++p) {
        const std::string article = title.empty() ? fmt::format("article {}", a) : title;
        set.guarded(
            [&] { read_squad_paragraph(paragraphs[p], article, fmt::format("{}.paragraphs[{}]", where, p), set); });
      }
    });
  }
}

// ---- which form, and the whole file

std::string keys_of(const json& record) {
  std::string keys;
  for (const auto& [key, value] : record.items()) {
    if (keys.size() > 200) return keys + ", ...";
    keys += fmt::format("{}\"{}\"", keys.empty() ? "" : ", ", key);
  }
  return keys.empty() ? "nothing" : keys;
}

QuestionForm form_of(const json& record, const std::string& where) {
  require(record.is_object(), "{}: expected a JSON object with a question, found a JSON {}", where, record.type_name());
  if (record.contains("data")) return QuestionForm::squad;
  if (record.contains("Data")) return QuestionForm::triviaqa;
  if (record.contains("ctxs")) return QuestionForm::dpr;
  if (record.contains("context") && record.contains("_id")) return QuestionForm::hotpotqa;
  if (record.contains("id") && record["id"].is_object() && record["id"].contains("question"))
    return QuestionForm::answered;
  if (record.contains("possible_answers")) return QuestionForm::popqa;
  if (record.contains("golden_answers")) return QuestionForm::flashrag;
  const bool plain = record.contains("question") && (record.contains("answer") || record.contains("answers"));
  require(plain, "{}: expected a question in one of the forms that are read, found an object with {}", where,
          keys_of(record));
  const bool list = record.contains("answer") && record["answer"].is_array();
  const bool passages = record.contains("documents") || record.contains("passages") || record.contains("context");
  return list && !passages ? QuestionForm::nq_open : QuestionForm::plain;
}

bool is_one_object(QuestionForm form) { return form == QuestionForm::squad || form == QuestionForm::triviaqa; }

void read_record(QuestionForm form, const json& record, const RecordPlace& place, QuestionSetBuilder& set) {
  require(record.is_object(), "{}: expected a JSON object with a question, found a JSON {}", place.where,
          record.type_name());
  switch (form) {
    case QuestionForm::dpr: return read_dpr(record, place, set);
    case QuestionForm::popqa: return read_popqa(record, place, set);
    case QuestionForm::nq_open: return read_nq_open(record, place, set);
    case QuestionForm::flashrag: return read_flashrag(record, place, set);
    case QuestionForm::answered: return read_answered(record, place, set);
    default: return read_plain(record, place, set);
  }
}

// Reads records one after another; the first says which form they have, where none was named.
class RecordReader {
 public:
  RecordReader(QuestionForm form, const QuestionChoice& choice, QuestionSetBuilder& set)
      : form_(form), choice_(choice), set_(set) {}
  void read(const json& record, const RecordPlace& place) {
    if (form_ == QuestionForm::automatic) form_ = form_of(record, place.where);
    require(!is_one_object(form_), "{}: expected a file of the form {} to be one JSON object, found a list of them",
            place.where, question_form_name(form_));
    if (form_ == QuestionForm::hotpotqa && record.is_object()) {
      read_hotpotqa(record, place, choice_.hotpotqa, set_);
    } else {
      read_record(form_, record, place, set_);
    }
  }
  QuestionForm form() const { return form_; }
  const QuestionChoice& choice() const { return choice_; }

 private:
  QuestionForm form_;
  const QuestionChoice& choice_;
  QuestionSetBuilder& set_;
};

QuestionForm read_lines(TextFile& file, QuestionForm form, const QuestionChoice& choice, QuestionSetBuilder& set) {
  using Lines = QuestionChoice::Lines;
  RecordReader reader(form, choice, set);
  for (std::string line; file.next_line(line);) {
    const std::string where = file.where(), number = where.substr(where.rfind(':') + 1);
    const Lines parity = (number.back() - '0') % 2 == 1 ? Lines::odd : Lines::even;
    if (choice.lines != Lines::all && choice.lines != parity) continue;
    set.guarded([&] { reader.read(parse_json_text(line, where), {where, "line " + number}); });
  }
  return reader.form();
}

QuestionForm read_value(const json& file, const std::string& path, RecordReader reader, QuestionSetBuilder& set) {
  const QuestionForm form = reader.form();
  if (file.is_array() && !is_one_object(form)) {
    for (size_t i = 0; i < file.size(); ++i) {
      set.guarded([&] { reader.read(file[i], {fmt::format("{}: [{}]", path, i), fmt::format("[{}]", i)}); });
    }
    return reader.form();
  }
  const QuestionForm found = form == QuestionForm::automatic ? form_of(file, path) : form;
  if (found == QuestionForm::squad) read_squad(file, path, set);
  if (found == QuestionForm::triviaqa) read_triviaqa(file, path, reader.choice().evidence, set);
  require(is_one_object(found), "{}: expected a JSON array of questions, found a JSON {}", path, file.type_name());
  return found;
}

}  // namespace

QuestionSet read_questions(const std::filesystem::path& path, QuestionForm form, const QuestionChoice& choice) {
  QuestionSetBuilder set(choice.faults);
  QuestionForm found = form;
  if (has_object_lines(path)) {
    TextFile file(path, TextNames::json);
    found = read_lines(file, form, choice, set);
  } else {
    const std::string name = path.string();
    require(choice.lines == QuestionChoice::Lines::all,
            "{}: expected an object a line, of which odd or even ones can be taken, found one JSON value", name);
    found = read_value(parse_json_text(TextFile(path, TextNames::json).rest(), name), name, {form, choice, set}, set);
  }
  return set.finish(path, found);
}

}  // namespace cepe
