#include "tasks/example.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace cepe {
namespace {

const Question kQuestion = {"Read.\n", "A town.", "\nQuestion: Which?", "Which?", "\n Answer:"};

TEST(PromptText, TheTaskSaysItsPartsInOrder) {
  const PromptText text = prompt_text(kQuestion, PromptForm::task);
  EXPECT_EQ(text.message, "Read.\nA town.\nQuestion: Which?\n Answer:");
  EXPECT_EQ(text.answer_prefix, "");
}

TEST(PromptText, AQuestionAloneHasTheTextBeforeIt) {
  EXPECT_EQ(prompt_text(kQuestion, PromptForm::question).message, "A town.\n\nQuestion: Which?\nAnswer:");
  Question encoded = kQuestion;
  encoded.text.clear();
  EXPECT_EQ(prompt_text(encoded, PromptForm::question).message, "Question: Which?\nAnswer:");
}

TEST(PromptText, AChatKeepsTheAnswersBeginningApart) {
  const PromptText text = prompt_text(kQuestion, PromptForm::chat);
  EXPECT_EQ(text.message, "Read.\nA town.\nQuestion: Which?");
  EXPECT_EQ(text.answer_prefix, "Answer:");
}

TEST(PromptForms, HaveNames) {
  for (const PromptForm form : {PromptForm::task, PromptForm::question, PromptForm::chat}) {
    EXPECT_EQ(prompt_form_from_name(prompt_form_name(form), "form"), form);
  }
  try {
    prompt_form_from_name("x", "form");
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("form: expected task, question or chat, found \"x\""));
  }
}

}  // namespace
}  // namespace cepe
