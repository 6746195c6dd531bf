// TriviaQA (Joshi et al. 2017): questions, and the pages that were found for them.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "tasks/questions/question_set.h"

namespace cepe {

// Takes the questions of one of its files into the set. With `evidence`, a directory with wikipedia/ and web/ in it,
// the passages are the texts of EntityPages and SearchResults, in passages of 100 words each, titled as the page is. A
// page that has no "Filename" was not kept; one that cannot be read, or that stands outside the directory, is left out
// with a fault where these are gathered (QuestionChoice), else it is an Error.
void read_triviaqa(const nlohmann::json& file, const std::string& path, const std::filesystem::path& evidence,
                   QuestionSetBuilder& set);

}  // namespace cepe
