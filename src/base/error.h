// Errors: one sentence that names the file, the thing, what was expected and what was found.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace cepe {

// Every failure that a user can cause (a bad file, option or text) is thrown as Error; its what() is one
// sentence for the user. Only apps/ catches it: it prints "cepe: <what>" and returns a non-zero status.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Throws Error with a formatted sentence: fail("{}: tensor {} has shape {}, expected {}", file, name, ...).
template <typename... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}

// fail() unless the condition holds. The arguments are evaluated either way; format them only on failure.
template <typename... Args>
void require(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) fail(format, std::forward<Args>(args)...);
}

}  // namespace cepe
