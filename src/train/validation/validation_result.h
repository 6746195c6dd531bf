// What a validation found, of whatever kind of model.
#pragma once

#include <nlohmann/json.hpp>
#include <vector>

#include "train/validation/sample_validation.h"
#include "train/validation/text_validation.h"
#include "train/validation/validation.h"

namespace cepe {

// Any of these may be empty.
struct ValidationResult {
  std::vector<ValidationRow> documents;  // with a context, another document's, and none
  std::vector<SampleRow> samples;
  std::vector<TextRow> texts;
};

// As config.json and state.json record it, by domain: of documents or of texts, and of samples. Null: none.
nlohmann::json record_of_documents(const ValidationResult& result);
nlohmann::json record_of_samples(const ValidationResult& result);

}  // namespace cepe
