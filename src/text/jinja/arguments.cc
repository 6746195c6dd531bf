#include "text/jinja/arguments.h"

#include <algorithm>

#include "base/error.h"

namespace cepe::jinja {

std::vector<std::optional<Value>> bind(const Arguments& arguments, std::initializer_list<std::string_view> names) {
  require(arguments.positional.size() <= names.size(), "takes at most {} arguments, found {}", names.size(),
          arguments.positional.size());
  std::vector<std::optional<Value>> out(names.size());
  std::copy(arguments.positional.begin(), arguments.positional.end(), out.begin());
  for (const auto& [name, value] : arguments.named) {
    const auto found = std::find(names.begin(), names.end(), name);
    require(found != names.end(), "the argument \"{}\" is not supported", name);
    auto& slot = out[static_cast<size_t>(found - names.begin())];
    require(!slot, "the argument \"{}\" is given twice", name);
    slot = value;
  }
  return out;
}

const Value& needed(const std::optional<Value>& argument, std::string_view name) {
  require(argument.has_value(), "the argument \"{}\" is missing", name);
  return *argument;
}

const std::string& string_argument(const Value& value, std::string_view what) {
  require(value.is(Kind::kString), "{} must be a string, found {}", what, kind_name(value.kind()));
  return value.string();
}

int64_t integer_argument(const Value& value, std::string_view what) {
  require(value.is_integral(), "{} must be an integer, found {}", what, kind_name(value.kind()));
  return value.integer();
}

int64_t integer_or(const std::optional<Value>& argument, int64_t fallback, std::string_view what) {
  return argument ? integer_argument(*argument, what) : fallback;
}

bool given(const std::optional<Value>& argument) { return argument && !argument->is(Kind::kNone); }

bool is_true(const std::optional<Value>& argument) { return argument && argument->truthy(); }

}  // namespace cepe::jinja
