#include "tasks/questions/questions.h"

#include "base/error.h"

namespace cepe {
namespace {

struct FormName {
  QuestionForm form;
  const char* name;
};
constexpr FormName kForms[] = {{QuestionForm::automatic, "auto"},    {QuestionForm::dpr, "dpr"},
                               {QuestionForm::squad, "squad"},       {QuestionForm::hotpotqa, "hotpotqa"},
                               {QuestionForm::triviaqa, "triviaqa"}, {QuestionForm::popqa, "popqa"},
                               {QuestionForm::nq_open, "nq-open"},   {QuestionForm::flashrag, "flashrag"},
                               {QuestionForm::plain, "plain"},       {QuestionForm::answered, "answered"}};

}  // namespace

std::string passage_text(const Passage& passage) {
  return passage.title.empty() ? passage.text : passage.title + "\n" + passage.text;
}

const char* question_form_name(QuestionForm form) {
  for (const FormName& known : kForms) {
    if (known.form == form) return known.name;
  }
  return "";
}

QuestionForm question_form_from_name(std::string_view name, std::string_view option) {
  std::string names;
  for (const FormName& known : kForms) {
    if (name == known.name) return known.form;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", known.name);
  }
  fail("{}: expected one of {}, found \"{}\"", option, names, name);
}

}  // namespace cepe
