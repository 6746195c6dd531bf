#include "tasks/example.h"

#include "base/error.h"

namespace cepe {

const char* prompt_form_name(PromptForm form) {
  switch (form) {
    case PromptForm::task: return "task";
    case PromptForm::question: return "question";
    case PromptForm::chat: return "chat";
  }
  return "";
}

PromptForm prompt_form_from_name(std::string_view name, std::string_view option) {
  for (const PromptForm form : {PromptForm::task, PromptForm::question, PromptForm::chat}) {
    if (name == prompt_form_name(form)) return form;
  }
  fail("{}: expected task, question or chat, found \"{}\"", option, name);
}

PromptText prompt_text(const Question& question, PromptForm form) {
  const std::string own = question.before + question.text + question.after;
  switch (form) {
    case PromptForm::task: return {own + question.answer_prefix, ""};
    case PromptForm::question:
      return {question.text + (question.text.empty() ? "" : "\n\n") + "Question: " + question.question + "\nAnswer:",
              ""};
    case PromptForm::chat: {
      // A template ends with a line break, after which a space would be a word of its own.
      const size_t first = question.answer_prefix.find_first_not_of(" \n");
      return {own, first == std::string::npos ? "" : question.answer_prefix.substr(first)};
    }
  }
  return {};
}

}  // namespace cepe
