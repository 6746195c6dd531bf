// Tokens to a syntax tree, with Jinja's grammar and precedence.
#pragma once

#include <string_view>

#include "text/jinja/ast.h"

namespace cepe::jinja {

// Throws Error naming the construct and its line where the template is malformed or leaves the subset:
// statements if/for/set; filters, tests, functions and methods of builtins.h.
Template parse(std::string_view source);

}  // namespace cepe::jinja
