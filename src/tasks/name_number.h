// A number for a name, as a part of the key of draws (base/random.h).
#pragma once

#include <cstdint>
#include <string_view>

namespace cepe {

// FNV-1a of a task's or a set's name: it stays when others are added. Recorded runs depend on it: it must never change.
constexpr uint64_t number_of_name(std::string_view name) {
  uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  return hash;
}

}  // namespace cepe
