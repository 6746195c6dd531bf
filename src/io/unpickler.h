// The part of Python's pickle format (protocol 2) that a dictionary of tensors needs (docs/formats/pickle.md). No class
// is loaded and no function is called, whatever the pickle names: the few names that describe tensors are known here,
// any other ends the reading.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "io/tensor_source.h"

namespace cepe {

// A tensor as the pickle describes it. Nothing is checked against the storage yet.
struct PickledTensor {
  std::string name;          // its key in the dictionary
  DType dtype = DType::f32;  // of the storage's elements
  std::string storage;       // the storage's record: "data/<storage>"
  int64_t storage_elements = 0;
  int64_t offset = 0;                  // in elements
  std::vector<int64_t> shape, stride;  // of equal length; the stride in elements
};

// The tensors of a pickled dictionary {name: tensor}, in its order. `where` names the file in errors. Throws Error for
// any other content, naming a function or class that the pickle asks for.
std::vector<PickledTensor> read_pickled_tensors(const std::string& where, std::span<const std::byte> pickle);

}  // namespace cepe
