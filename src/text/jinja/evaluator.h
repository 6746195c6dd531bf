// Runs a parsed template.
#pragma once

#include <map>
#include <string>

#include "text/jinja/ast.h"

namespace cepe::jinja {

// The text of the template with these variables. Throws Error naming the line: what the template raises, what
// Jinja would refuse, and a template that does more than a fixed amount of work (it cannot run forever).
std::string render(const Template& parsed, const std::map<std::string, Value>& variables);

}  // namespace cepe::jinja
