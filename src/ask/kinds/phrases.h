// Parts of English sentences that patterns look for.
#pragma once

#include <string>
#include <string_view>

namespace cepe {

// The length of a date at the beginning of the text: "1956", "June 1956", "12 June 1956", "June 12, 1956"; 0: none.
// `whole`: with day, month and year only.
size_t date_length(std::string_view text, bool whole);
// Whether the text begins with the name of a month.
bool begins_with_month(std::string_view text);
// The length of a name at the beginning: capitalised words, "of", "the", "de", "von" and the like between them; with
// `commas` also "Springfield, Illinois". 0: none.
size_t name_length(std::string_view text, bool commas);
// The length of a number at the beginning: digits with "," and ".", or a number word up to twenty; 0: none.
size_t number_length(std::string_view text);

enum class Subject { none, weak, strong };
// What the text before a verb is: strong, a name or "The" and a name of several words, of at most seven words; weak,
// "The" and a word or two of any kind, which only the article tells apart; else none.
Subject subject_kind(std::string_view text);

// Up to the first of ".", ",", ";", "(", ":" or the text's end; never inside a number.
std::string_view clause(std::string_view text);

}  // namespace cepe
