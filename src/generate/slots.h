// Slots: the places of a key-value cache's batch, one a sequence.
#pragma once

#include "model/layers.h"

namespace cepe {

// A slot as a cache of batch 1 that holds `length` tokens: decode() reads a prompt, or the next piece of it, into it.
// Shares the cache's memory.
KeyValueCache slot_of(const KeyValueCache& cache, int64_t slot, int64_t length);

// Copies the first `length` tokens of a slot to another, in order with the device's current stream, so that the
// sequences at work stand in the first slots again when one has ended. Throws Error where there is no such slot.
void move_slot(const KeyValueCache& cache, int64_t from, int64_t to, int64_t length);

}  // namespace cepe
