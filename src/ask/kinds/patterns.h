// Questions from sentences of an article, by patterns whose question is surely right.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ask/kinds/draft.h"

namespace cepe {

// Questions about the article, with their answers as the text gives them. A question that a second sentence answers
// differently is left out. `title`: what the article is about; where a sentence speaks of "the album", the question
// names it.
std::vector<AskTurn> questions_about(const std::string& title, std::string_view text);

}  // namespace cepe
