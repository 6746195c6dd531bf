// Tags of examples and results as the columns of a table.
#pragma once

#include <string>
#include <vector>

#include "report/evaluation_run.h"
#include "report/html.h"

namespace cepe {

// The tags that differ among the rows are columns: task, then setting, then the others by name. Those that every row
// has with one value are said once, in a sentence.
struct TagColumns {
  std::vector<std::string> names;
  std::string same;  // "gold always, reader encoder"; empty where nothing is the same
};
TagColumns tag_columns(const std::vector<RunTags>& rows);

// The row's value of a tag, empty where it has none; runs of digits sort as numbers.
HtmlCell tag_cell(const RunTags& tags, const std::string& name);

// A share from 0 to 1 in percent.
HtmlCell percent_cell(double share);
// A result's value: a share in percent, others as a number of four digits; several: with "%" or the unit, for a table
// that holds values of several units.
HtmlCell value_cell(const RunResult& result, bool several_units);

}  // namespace cepe
