// Statements in many forms and the questions that they answer: forms.txt (its head says how it is written).
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "ask/sources/words.h"

namespace cepe {

struct AskRelation {
  std::string name;
  std::string entity, value;  // lists of AskWords
  bool held = false;          // wholly kept out of training
  std::vector<std::string> statements, held_statements, questions, reverse_questions;
};

struct AskForms {
  std::vector<AskRelation> relations;
  std::vector<std::string> wrappers;  // with "{s}"; of a statement that stands by itself: "{s}"
};

// Error naming file and line: a line that is none of the forms, a form without its tags or with unknown ones, {r} where
// the relation's first question has none, a kind without a list, a relation without questions or statements.
AskForms read_ask_forms(const std::filesystem::path& path, const AskWords& words);

// What a form's tags stand for.
struct AskFact {
  std::string entity, value, relation;
};
// The form with its tags replaced; "a {v}" becomes "an ..." before a vowel, and an article that begins the text a
// capital.
std::string fill_form(std::string_view form, const AskFact& fact);

}  // namespace cepe
