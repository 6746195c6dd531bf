// The records of each form of long texts, taken into a builder.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "tasks/json_records.h"
#include "tasks/long/long_set_builder.h"

namespace cepe {

// The form of a record; Error naming the place, with its members, where it has none that is known.
LongForm long_form_of(const nlohmann::json& record, const std::string& where);

// Takes the questions of one record (long_files.h says what the forms look like) into the builder; `file` is the name
// of its set where the form has no names of its own. What is wrong with one of several questions of a record goes to
// `faults`, an Error's sentence each; what is wrong with all of it is thrown as Error.
struct LongRecord {
  LongForm form;
  const nlohmann::json& value;
  RecordPlace place;
  std::string file;
};
void read_long_record(const LongRecord& record, LongSetBuilder& set, std::vector<std::string>& faults);

}  // namespace cepe
