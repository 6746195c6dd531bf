#include "ask/sources/forms.h"

#include <sstream>

#include "base/error.h"
#include "text/text_file.h"

namespace cepe {
namespace {

bool holds(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

bool begins_with_article(std::string_view text) {
  return text.starts_with("the ") || text.starts_with("a ") || text.starts_with("an ");
}

class FormsReader {
 public:
  FormsReader(const std::filesystem::path& path, const AskWords& words) : file_(path), words_(words) {}

  AskForms read() {
    for (std::string line; file_.next_line(line);) {
      if (line[0] == ';') continue;
      if (line[0] == '#') {
        begin_relation(line);
      } else {
        require(line.size() > 2 && line[1] == ' ', "{}: expected S, H, Q, R or W and a space, found \"{}\"",
                file_.where(), line);
        add_form(line[0], line.substr(2));
      }
    }
    end_relation();
    require(!forms_.relations.empty(), "{}: expected relations, \"# name kind value\", found none", file_.where());
    if (forms_.wrappers.empty()) forms_.wrappers.emplace_back("{s}");
    return std::move(forms_);
  }

 private:
  void begin_relation(const std::string& line) {
    end_relation();
    AskRelation relation;
    relation.held = line.starts_with("#!");
    std::istringstream parts(line.substr(relation.held ? 2 : 1));
    std::string more;
    parts >> relation.name >> relation.entity >> relation.value;
    require(!relation.value.empty() && !(parts >> more), "{}: expected \"# name kind value\", found \"{}\"",
            file_.where(), line);
    for (const std::string& list : {relation.entity, relation.value}) {
      require(words_.has(list), "{}: there is no list of words \"{}\"", file_.where(), list);
    }
    where_ = file_.where();
    relation_tag_.clear();
    forms_.relations.push_back(std::move(relation));
  }

  void end_relation() const {
    if (forms_.relations.empty()) return;
    const AskRelation& last = forms_.relations.back();
    const bool statements = !(last.held ? last.held_statements : last.statements).empty();
    require(statements && !last.questions.empty(), "{}: the relation {} needs a statement ({}) and a question (Q)",
            where_, last.name, last.held ? "H" : "S");
    const bool generic = holds(last.questions.front(), "{r}");
    require(generic || relation_tag_.empty(), "{}: {{r}} in the relation {}, whose first question has none",
            relation_tag_, last.name);
  }

  void check_tags(const std::string& text) const {
    for (size_t at = text.find_first_of("{}"); at != std::string::npos; at = text.find_first_of("{}", at)) {
      const std::string tag = text.substr(at, 3);
      require(tag == "{e}" || tag == "{v}" || tag == "{r}",
              "{}: expected no tags but {{e}}, {{v}} and {{r}}, found \"{}\"", file_.where(), text.substr(at));
      at += tag.size();
    }
  }

  void add_form(char letter, std::string text) {
    const bool entity = holds(text, "{e}"), value = holds(text, "{v}");
    const auto check = [&](bool right, const char* tags) {
      require(right, "{}: expected a form with {}, found \"{}\"", file_.where(), tags, text);
    };
    if (letter == 'W') {
      check(holds(text, "{s}"), "{s}");
      AskRandom none{0};  // its tags are checked here, and drawn anew each time
      std::string probe = text;
      words_.expand(probe.replace(probe.find("{s}"), 3, ""), file_.where(), none);
      forms_.wrappers.push_back(std::move(text));
      return;
    }
    require(!forms_.relations.empty(), "{}: a form before the first relation", file_.where());
    AskRelation& relation = forms_.relations.back();
    check_tags(text);
    if (holds(text, "{r}") && relation_tag_.empty()) relation_tag_ = file_.where();
    switch (letter) {
      case 'S':
        check(entity && value, "{e} and {v}");
        require(!relation.held, "{}: the relation {} is kept out of training and has only H", file_.where(),
                relation.name);
        relation.statements.push_back(std::move(text));
        break;
      case 'H':
        check(entity && value, "{e} and {v}");
        relation.held_statements.push_back(std::move(text));
        break;
      case 'Q':
        check(entity && !value, "{e} and without {v}");
        relation.questions.push_back(std::move(text));
        break;
      case 'R':
        check(value && !entity, "{v} and without {e}");
        relation.reverse_questions.push_back(std::move(text));
        break;
      default: fail("{}: expected S, H, Q, R or W, found \"{}\"", file_.where(), letter);
    }
  }

  TextFile file_;
  const AskWords& words_;
  AskForms forms_;
  std::string where_;         // of the relation
  std::string relation_tag_;  // of its first form with {r}
};

}  // namespace

AskForms read_ask_forms(const std::filesystem::path& path, const AskWords& words) {
  return FormsReader(path, words).read();
}

std::string fill_form(std::string_view form, const AskFact& fact) {
  std::string text;
  for (size_t at = 0; at < form.size();) {
    const std::string_view rest = form.substr(at);
    const std::string* insert = rest.starts_with("{e}")   ? &fact.entity
                                : rest.starts_with("{v}") ? &fact.value
                                : rest.starts_with("{r}") ? &fact.relation
                                                          : nullptr;
    if (!insert) {
      text += form[at++];
      continue;
    }
    const bool article = text.ends_with(" a ") || text == "a " || text == "A ";
    if (article && !insert->empty() && holds("aeiouAEIO", insert->substr(0, 1))) text.insert(text.size() - 1, "n");
    const bool sentence = text.empty() || text.ends_with(". ") || text.ends_with("? \"") || text == "\"";
    text += sentence && begins_with_article(*insert) ? capitalised(*insert) : *insert;
    at += 3;
  }
  return text;
}

}  // namespace cepe
