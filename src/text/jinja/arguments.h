// The arguments of a call, as its filters, methods and functions see them.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/value.h"

namespace cepe::jinja {

// Positional and named arguments in the order of `names`, absent ones empty. Error for one that is not named here.
std::vector<std::optional<Value>> bind(const Arguments& arguments, std::initializer_list<std::string_view> names);
const Value& needed(const std::optional<Value>& argument, std::string_view name);
const std::string& string_argument(const Value& value, std::string_view what);
int64_t integer_argument(const Value& value, std::string_view what);
int64_t integer_or(const std::optional<Value>& argument, int64_t fallback, std::string_view what);
bool given(const std::optional<Value>& argument);    // and not none
bool is_true(const std::optional<Value>& argument);  // false where absent

}  // namespace cepe::jinja
