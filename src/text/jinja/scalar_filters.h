// The filters of single values: texts and numbers.
#pragma once

#include "text/jinja/value.h"

namespace cepe::jinja {

Value default_filter(const Value& value, const Arguments& arguments);
Value to_json_filter(const Value& value, const Arguments& arguments);
Value abs_filter(const Value& value, const Arguments& arguments);
Value int_filter(const Value& value, const Arguments& arguments);
Value float_filter(const Value& value, const Arguments& arguments);
Value round_filter(const Value& value, const Arguments& arguments);
Value trim_filter(const Value& value, const Arguments& arguments);
Value replace_filter(const Value& value, const Arguments& arguments);
Value indent_filter(const Value& value, const Arguments& arguments);
Value title_filter(const Value& value, const Arguments& arguments);
Value truncate_filter(const Value& value, const Arguments& arguments);
Value center_filter(const Value& value, const Arguments& arguments);
Value format_filter(const Value& value, const Arguments& arguments);

}  // namespace cepe::jinja
