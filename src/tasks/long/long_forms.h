// The records of each form of long texts, taken into a builder.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "tasks/long/long_record.h"
#include "tasks/long/long_set_builder.h"

namespace cepe {

// The form of a record; Error naming the place, with its members, where it has none that is known.
LongForm long_form_of(const nlohmann::json& record, const std::string& where);

// Takes the questions of one record (long_files.h says what the forms look like) into the builder. What is wrong with
// one of several questions of a record goes to `faults`, an Error's sentence each; what is wrong with all of it is
// thrown as Error.
void read_long_record(const LongRecord& record, LongSetBuilder& set, std::vector<std::string>& faults);

}  // namespace cepe
