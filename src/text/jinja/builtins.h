// The filters, tests, functions and methods that a chat template may use; whatever is not here is refused by name.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/value.h"

namespace cepe::jinja {

// value | name(...): abs batch capitalize center count d default dictsort first float format indent int items join last
// length list lower map max min reject rejectattr replace reverse round select selectattr slice sort string sum title
// tojson (indent up to 32) trim truncate unique upper. Named arguments as in Jinja.
bool is_filter(std::string_view name);
Value apply_filter(std::string_view name, const Value& value, const Arguments& arguments);

// value is name [operand]: boolean callable defined divisibleby eq equalto even false float ge greaterthan gt in
// integer iterable le lessthan lower lt mapping ne none number odd sameas sequence string true undefined upper.
int test_operands(std::string_view name);  // how many it takes besides the value; -1 for an unknown test
bool apply_test(std::string_view name, const Value& value, const std::vector<Value>& operands);

// name(...): cycler dict joiner namespace range raise_exception strftime_now.
bool is_function(std::string_view name);
Value call_function(std::string_view name, const Arguments& arguments);

// object.name(...): methods of strings (capitalize center count endswith find format index isalnum isalpha isascii
// isdecimal isdigit islower isspace isupper join ljust lower lstrip partition removeprefix removesuffix replace rfind
// rindex rjust rpartition rsplit rstrip split splitlines startswith strip title upper zfill), of mappings (copy get
// items keys values), of lists (copy count index).
Value call_method(std::string_view name, const Value& object, const Arguments& arguments);
// Methods of Python's strings, lists and mappings that are none of these. Those that change a list or mapping are
// refused by Jinja's sandbox as well.
bool is_refused_method(std::string_view name);

// Whether Python would find a method, and not an element, behind value.name.
bool names_method(const Value& value, std::string_view name);

}  // namespace cepe::jinja
