#include "ask/sources/question_files.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "ask/sources/sentences.h"
#include "base/error.h"
#include "io/json_file.h"
#include "text/text_file.h"

namespace cepe {
namespace {

using nlohmann::json;

const json& member(const json& object, const char* name, json::value_t type, const std::string& where) {
  require(object.is_object(), "{}: expected a JSON object with \"{}\", found a JSON {}", where, name,
          object.type_name());
  const auto found = object.find(name);
  require(found != object.end(), "{}: \"{}\" is missing", where, name);
  require(found->type() == type, "{}: expected \"{}\" to be a JSON {}, found a JSON {}", where, name,
          json(type).type_name(), found->type_name());
  return *found;
}
std::string text_of(const json& object, const char* name, const std::string& where) {
  return member(object, name, json::value_t::string, where).get<std::string>();
}
const json& list_of(const json& object, const char* name, const std::string& where) {
  return member(object, name, json::value_t::array, where);
}
std::string text_or_nothing(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

// A string, or a list of strings, under any of the names.
std::vector<std::string> answers_of(const json& object, std::initializer_list<const char*> names,
                                    const std::string& where) {
  for (const char* name : names) {
    const auto found = object.find(name);
    if (found == object.end()) continue;
    if (found->is_string()) return {found->get<std::string>()};
    require(found->is_array(), "{}: expected \"{}\" to be a JSON string or array, found a JSON {}", where, name,
            found->type_name());
    std::vector<std::string> answers;
    for (const json& answer : *found) {
      require(answer.is_string(), "{}: expected the answers to be strings, found a JSON {}", where, answer.type_name());
      answers.push_back(answer.get<std::string>());
    }
    return answers;
  }
  fail("{}: \"{}\" is missing", where, *names.begin());
}

int64_t remainder_of_five(const std::string& hexadecimal, const std::string& where) {
  int64_t remainder = 0;
  for (const char c : hexadecimal) {
    const size_t digit = std::string_view("0123456789abcdef").find(c);
    require(digit != std::string_view::npos, "{}: expected \"_id\" to be hexadecimal, found \"{}\"", where,
            hexadecimal);
    remainder = (remainder * 16 + static_cast<int64_t>(digit)) % 5;
  }
  return remainder;
}

class QuestionReader {
 public:
  QuestionReader(AskQuestionFile& into, AskPart part, std::string lines)
      : into_(into), part_(part), lines_(std::move(lines)) {}

  void read() {
    if (is_json_lines(into_.path)) {
      read_lines();
    } else {
      require(lines_.empty(), "{}: lines are of .jsonl files", into_.path.string());
      read_document(read_json(into_.path));
    }
    require(!into_.questions.empty(), "{}: expected questions with answers, found none", into_.path.string());
  }

 private:
  size_t add_passage(AskPassage passage) {
    const auto [entry, fresh] = index_.try_emplace(passage.title + "\n" + passage.text, into_.passages.size());
    if (fresh) into_.passages.push_back(std::move(passage));
    return entry->second;
  }

  // The shortest answer that a gold passage holds comes first.
  void add_question(AskQuestion question) {
    question.question = on_one_line(question.question);
    for (std::string& answer : question.answers) answer = on_one_line(answer);
    std::erase_if(question.answers, [](const std::string& answer) { return answer.empty(); });
    if (question.answers.empty() || question.gold.empty() || question.question.empty()) return;
    std::stable_sort(question.answers.begin(), question.answers.end(), [&](const auto& a, const auto& b) {
      const bool a_there = stands_in_gold(question, a), b_there = stands_in_gold(question, b);
      return a_there != b_there ? a_there : a_there && a.size() < b.size();
    });
    into_.questions.push_back(std::move(question));
  }
  bool stands_in_gold(const AskQuestion& question, const std::string& answer) const {
    return std::any_of(question.gold.begin(), question.gold.end(),
                       [&](size_t g) { return into_.passages[g].text.find(answer) != std::string::npos; });
  }

  void read_document(const json& file) {
    const std::string path = into_.path.string();
    if (file.is_object()) {
      for (size_t i = 0; const json& article : list_of(file, "data", path)) {
        read_squad_article(article, fmt::format("{}: data[{}]", path, i++));
      }
      return;
    }
    require(file.is_array(), "{}: expected a JSON object or array of questions, found a JSON {}", path,
            file.type_name());
    for (size_t i = 0; i < file.size(); ++i) {
      const std::string where = fmt::format("{}: [{}]", path, i);
      require(file[i].is_object(), "{}: expected a JSON object, found a JSON {}", where, file[i].type_name());
      if (file[i].contains("_id")) {
        read_hotpotqa(file[i], where);
      } else {
        const size_t gold = add_passage({text_or_nothing(file[i], "title"), text_of(file[i], "context", where)});
        add_question({text_of(file[i], "question", where), answers_of(file[i], {"answer", "answers"}, where), {gold}});
      }
    }
  }

  void read_squad_article(const json& article, const std::string& where) {
    const std::string title = text_or_nothing(article, "title");
    for (size_t p = 0; const json& paragraph : list_of(article, "paragraphs", where)) {
      const std::string place = fmt::format("{}.paragraphs[{}]", where, p++);
      const size_t gold = add_passage({title, text_of(paragraph, "context", place)});
      for (const json& qa : list_of(paragraph, "qas", place)) {
        const auto impossible = qa.find("is_impossible");
        if (impossible != qa.end() && *impossible == json(true)) continue;
        std::vector<std::string> answers;
        for (const json& answer : list_of(qa, "answers", place)) answers.push_back(text_of(answer, "text", place));
        add_question({text_of(qa, "question", place), std::move(answers), {gold}});
      }
    }
  }

  void read_hotpotqa(const json& item, const std::string& where) {
    const bool measuring = remainder_of_five(text_of(item, "_id", where), where) == 0;
    if (measuring != (part_ == AskPart::measuring)) return;
    std::vector<std::string> gold_titles;
    for (const json& fact : list_of(item, "supporting_facts", where)) {
      const bool pair = fact.is_array() && !fact.empty() && fact[0].is_string();
      require(pair, "{}: expected \"supporting_facts\" to hold pairs of a title and a number", where);
      gold_titles.push_back(fact[0].get<std::string>());
    }
    AskQuestion question{text_of(item, "question", where), {text_of(item, "answer", where)}, {}};
    for (const json& document : list_of(item, "context", where)) {
      const bool pair =
          document.is_array() && document.size() == 2 && document[0].is_string() && document[1].is_array();
      require(pair, "{}: expected \"context\" to hold pairs of a title and its sentences", where);
      AskPassage passage{document[0].get<std::string>(), ""};
      for (const json& sentence : document[1]) {
        require(sentence.is_string(), "{}: expected sentences to be strings, found a JSON {}", where,
                sentence.type_name());
        passage.text += sentence.get<std::string>();
      }
      const bool gold = std::find(gold_titles.begin(), gold_titles.end(), passage.title) != gold_titles.end();
      if (passage.text.empty()) continue;
      const size_t index = add_passage(std::move(passage));
      if (gold) question.gold.push_back(index);
    }
    add_question(std::move(question));
  }

  void read_lines() {
    TextFile file(into_.path);
    for (std::string line; file.next_line(line);) {
      const std::string where = file.where();
      const bool odd = std::strtoll(where.c_str() + where.rfind(':') + 1, nullptr, 10) % 2 == 1;
      if (!lines_.empty() && odd != (lines_ == "odd")) continue;
      const json item = json::parse(line, nullptr, false);
      require(item.is_object(), "{}: expected a JSON object, found {}", where,
              item.is_discarded() ? "no JSON" : item.type_name());
      read_line(item, where);
    }
  }

  void read_line(const json& item, const std::string& where) {
    AskQuestion question{text_of(item, "question", where), answers_of(item, {"answers", "answer"}, where), {}};
    if (item.contains("ctxs")) {
      for (const json& context : list_of(item, "ctxs", where)) {
        const size_t index = add_passage({text_or_nothing(context, "title"), text_of(context, "text", where)});
        const auto marked = context.find("isgold");
        const auto has = context.find(context.contains("hasanswer") ? "hasanswer" : "has_answer");
        const bool gold = marked != context.end() ? *marked == json(true)
                          : has != context.end()  ? *has == json(true)
                                                  : holds_answer(into_.passages[index].text, question.answers);
        if (gold) question.gold.push_back(index);
      }
    } else {
      for (const json& document : list_of(item, "documents", where)) {
        const bool text = document.is_string();
        const size_t index =
            add_passage(text ? AskPassage{"", document.get<std::string>()}
                             : AskPassage{text_or_nothing(document, "title"), text_of(document, "text", where)});
        question.gold.push_back(index);
      }
    }
    add_question(std::move(question));
  }
  static bool holds_answer(const std::string& text, const std::vector<std::string>& answers) {
    return std::any_of(answers.begin(), answers.end(),
                       [&](const std::string& answer) { return text.find(answer) != std::string::npos; });
  }

  AskQuestionFile& into_;
  AskPart part_;
  std::string lines_;
  std::map<std::string, size_t> index_;
};

}  // namespace

AskQuestionFile read_question_file(const std::string& entry, const std::filesystem::path& directory, AskPart part) {
  std::istringstream parts(entry);
  std::string path, setting, lines;
  std::getline(parts, path, ';');
  AskQuestionFile file;
  file.path = directory / path;
  while (std::getline(parts, setting, ';')) {
    const size_t equals = setting.find('=');
    const std::string key = setting.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : setting.substr(equals + 1);
    if (key == "lines") {
      require(value == "odd" || value == "even", "{}: expected lines=odd or lines=even, found \"{}\"", entry, setting);
      lines = value;
    } else if (key == "share") {
      char* end = nullptr;
      file.share = std::strtod(value.c_str(), &end);
      require(!value.empty() && *end == '\0' && file.share > 0, "{}: expected share=NUMBER above 0, found \"{}\"",
              entry, setting);
    } else {
      fail("{}: expected lines= or share= after the file's name, found \"{}\"", entry, setting);
    }
  }
  QuestionReader(file, part, lines).read();
  return file;
}

}  // namespace cepe
