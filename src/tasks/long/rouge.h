// ROUGE (Lin 2004), which compares the words of a text with those of a reference, as the two packages that the field
// uses define it. They differ: a table says which one it shows.
#pragma once

#include <string_view>

#include "tasks/scorer.h"

namespace cepe {

// {"rouge1", "rouge2", "rougeL"}: F-measures of Google's package rouge-score. Words are runs of a-z and 0-9 in lower
// case, all other signs divide them; with `stem` words of more than three letters are stemmed (porter_stemmer.h).
// rouge1 and rouge2 count equal words and pairs of words, each as often as it is in both; rougeL is the longest common
// subsequence of the whole texts. Of several references the greatest counts, for each score by itself.
Scores google_rouge(std::string_view prediction, const std::vector<std::string>& references, bool stem);

// {"rouge-1", "rouge-2", "rouge-l"}: F-measures of the package rouge (pltrdy), the last of which is LongBench's. A
// text is cut into sentences at each ".", words are what white space divides, signs and case count. Words and pairs are
// counted once however often they come; rouge-l is the union of the words in the longest common subsequences of each
// sentence with each, over the different words. 0 where a text has no sentence. Of several references the greatest
// counts, for each score by itself.
Scores plain_rouge(std::string_view prediction, const std::vector<std::string>& references);

}  // namespace cepe
