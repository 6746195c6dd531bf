#include "train/validation/validation_result.h"

namespace cepe {

nlohmann::json record_of_documents(const ValidationResult& result) {
  nlohmann::json record;
  for (const ValidationRow& row : result.documents) {
    nlohmann::json& entry = record[row.domain];
    entry = {{"samples", row.samples}, {"loss_context", row.own}, {"loss_no_context", row.none}};
    if (row.other) entry["reading_gain"] = *row.reading_gain();
  }
  for (const TextRow& row : result.texts) {
    nlohmann::json& entry = record[row.domain];
    entry = {{"samples", row.samples}, {"loss", row.loss}};
    if (row.accuracy) entry["accuracy"] = *row.accuracy;
  }
  return record;
}

nlohmann::json record_of_samples(const ValidationResult& result) {
  nlohmann::json record;
  for (const SampleRow& row : result.samples) {
    if (row.chunks) continue;
    record[row.domain] = {{"samples", row.samples}, {"loss", row.loss}, {"exact", row.exact}};
  }
  return record;
}

}  // namespace cepe
