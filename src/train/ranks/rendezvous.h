// Where ranks that know only an address meet: c10d's key-value store over TCP.
#pragma once

#include <torch/csrc/distributed/c10d/Store.hpp>

#include "train/ranks/launch.h"

namespace cepe {

// The store at the launch's address, which rank 0 serves unless torchrun does. Waits for the others to come, but no
// longer than the timeout. Error: no address, no answer, a port that is taken.
c10::intrusive_ptr<c10d::Store> open_store(const Launch& launch, double timeout_minutes);

}  // namespace cepe
