// A record of a file of long texts, while it is read.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "tasks/json_records.h"
#include "tasks/long/long_texts.h"

namespace cepe {

struct LongRecord {
  LongForm form;
  const nlohmann::json& value;
  RecordPlace place;
  std::string file;  // the name of its set, where the form has no names of its own
};

}  // namespace cepe
