// Porter's stemmer, as ROUGE uses it.
#pragma once

#include <string>
#include <string_view>

namespace cepe {

// The stem of a word of small ASCII letters and digits: Porter's algorithm (1980, "An algorithm for suffix stripping")
// with the changes that nltk's PorterStemmer makes by default: a list of irregular words, "ies" and "ied", "y" after a
// consonant, two more suffixes (fulli, logi), "bli", and a vowel with a consonant as a short word. A word of one or two
// letters is its own stem.
std::string porter_stem(std::string_view word);

}  // namespace cepe
