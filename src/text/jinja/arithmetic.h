// What the operators of expressions do.
#pragma once

#include <string>

#include "text/jinja/value.h"

namespace cepe::jinja {

// a op b of "+", "-", "*", "/", "//", "%", "**" as in Python; "%" of a text fills its places in (format.h).
// Error where Python has one, and for integers beyond 64 bits.
Value arithmetic(const std::string& op, const Value& a, const Value& b);
Value negative(const Value& value);
// a op b of "==", "!=", "<", "<=", ">", ">=", "in", "not in".
bool compare(const std::string& op, const Value& a, const Value& b);
std::string concatenate(const std::string& a, const std::string& b);  // Error where that grows too long

}  // namespace cepe::jinja
