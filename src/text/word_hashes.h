// Words of a text as numbers, for comparing texts.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace cepe {

// The hash of each word in order: a run of letters and digits, in lower case; bytes outside ASCII are letters.
std::vector<uint64_t> word_hashes(std::string_view text);

}  // namespace cepe
