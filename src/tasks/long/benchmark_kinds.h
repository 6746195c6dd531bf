// What the benchmarks say of their data sets: the score and the tokens of an answer.
#pragma once

#include <string>

#include "tasks/long/long_set_builder.h"

namespace cepe {

// LongBench (Bai et al. 2023, arXiv 2308.14508), the scores of its eval.py and the tokens of its dataset2maxlen.json.
// Error naming the place on the data sets in Chinese, whose words only a segmenter divides, and on unknown ones.
LongKind longbench_kind(const std::string& name, const std::string& where);
// What is asked where a record has no question: the reports are to be summarised, code is to be gone on with.
std::string longbench_task(const std::string& name);

// ZeroSCROLLS (Shaham et al. 2023, arXiv 2305.14196), by the name of the file or of its folder. Error naming the place
// on space_digest and book_sum_sort, whose scores are not computed, and on unknown ones.
LongKind zeroscrolls_kind(const std::string& name, const std::string& where);

}  // namespace cepe
