// The variable "loop" of a template.
#pragma once

#include <cstdint>
#include <memory>

#include "text/jinja/value.h"

namespace cepe::jinja {

// With what does not change from round to round. `at` is the round, from 0; depth is 0 of the outermost loop.
std::shared_ptr<Namespace> new_loop_object(const std::shared_ptr<size_t>& at, int64_t depth);
// With what belongs to round i over the items.
void update_loop(Namespace& object, const List& items, size_t i);

}  // namespace cepe::jinja
