// What reading throws of a file that is there: of its content nothing is known.
#pragma once

#include "base/error.h"

namespace cepe {

// Thrown by read_file() and MappedFile where a file that is there cannot be opened or read: permissions, too many open
// files, a disk that fails.
class CannotRead : public Error {
 public:
  using Error::Error;
};

}  // namespace cepe
