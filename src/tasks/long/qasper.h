// Qasper (Dasigi et al. 2021): questions about papers.
#pragma once

#include <string>
#include <vector>

#include "tasks/long/long_record.h"
#include "tasks/long/long_set_builder.h"

namespace cepe {

// A paper in the form of the authors' files, or of a row of the Hugging Face data set, whose lists stand in other
// places. The document is title, abstract and sections. An answer is, as the authors' evaluator has it, "Unanswerable",
// the extracted spans with ", " between them, the free text, "Yes" or "No".
void read_qasper(const LongRecord& record, LongSetBuilder& set, std::vector<std::string>& faults);

}  // namespace cepe
