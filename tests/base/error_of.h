// What a call refuses.
#pragma once

#include <string>

#include "base/error.h"

namespace cepe {

// The sentence of the Error that the call throws; empty where it throws none.
template <typename Call>
std::string error_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace cepe
