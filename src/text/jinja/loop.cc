#include "text/jinja/loop.h"

#include <utility>

#include "base/error.h"

namespace cepe::jinja {

std::shared_ptr<Namespace> new_loop_object(const std::shared_ptr<size_t>& at, int64_t depth) {
  auto object = std::make_shared<Namespace>();
  object->settable = false;
  auto& entries = object->entries;
  entries["depth"] = depth + 1;
  entries["depth0"] = depth;
  entries["cycle"] = Function{"cycle", [at](const Arguments& arguments) {
                                const List& items = arguments.positional;
                                require(!items.empty(), "cycle needs values");
                                return items[*at % items.size()];
                              }};
  const auto last = std::make_shared<Value>();
  entries["changed"] = Function{"changed", [last](const Arguments& arguments) -> Value {
                                  const Value now(arguments.positional, Sequence::tuple);
                                  return !equal(std::exchange(*last, now), now);
                                }};
  return object;
}

void update_loop(Namespace& object, const List& items, size_t i) {
  auto& loop = object.entries;
  const auto size = static_cast<int64_t>(items.size()), at = static_cast<int64_t>(i);
  loop["index"] = at + 1;
  loop["index0"] = at;
  loop["revindex"] = size - at;
  loop["revindex0"] = size - at - 1;
  loop["first"] = at == 0;
  loop["last"] = at + 1 == size;
  loop["length"] = size;
  loop["previtem"] = i > 0 ? items[i - 1] : Value(Undefined{"there is no previous item"});
  loop["nextitem"] = i + 1 < items.size() ? items[i + 1] : Value(Undefined{"there is no next item"});
}

}  // namespace cepe::jinja
