// Comma-separated values (RFC 4180): fields in double quotes may hold commas, line breaks and quotes written twice.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cepe {

struct CsvRecord {
  std::vector<std::string> fields;
  int64_t line = 0;  // where it begins, from 1
};

// All records; lines without a character are passed over. A quote within a field that does not begin with one is a
// character. Error naming file and line where a quoted field does not end, or where something follows its end.
std::vector<CsvRecord> read_csv(std::string_view text, const std::string& file);

}  // namespace cepe
