// The filters, tests, functions and methods that a chat template may use; whatever is not here is refused by name.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja_value.h"

namespace cepe::jinja {

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

// value | name(...): capitalize count d default first items join last length list lower map(attribute=...) reject
// rejectattr replace select selectattr string tojson(indent up to 32) trim upper. Named arguments as in Jinja.
bool is_filter(std::string_view name);
Value apply_filter(std::string_view name, const Value& value, const Arguments& arguments);

// value is name [operand]: boolean callable defined divisibleby eq equalto even false float ge gt in integer iterable
// le lt mapping ne none number odd sequence string true undefined.
int test_operands(std::string_view name);  // how many it takes besides the value; -1 for an unknown test
bool apply_test(std::string_view name, const Value& value, const std::vector<Value>& operands);

// name(...): namespace range raise_exception strftime_now.
bool is_function(std::string_view name);
Value call_function(std::string_view name, const Arguments& arguments);
// Jinja's other global names, which a template could mean by them.
bool is_foreign_global(std::string_view name);

// object.name(...), of strings: strip lstrip rstrip split startswith endswith lower upper capitalize replace join
// find count; of mappings: get items keys values.
bool is_method(std::string_view name);
Value call_method(std::string_view name, const Value& object, const Arguments& arguments);

// Whether Python would find a method, and not an element, behind value.name.
bool names_method(const Value& value, std::string_view name);

}  // namespace cepe::jinja
