#include "text/tokenizer/tokenizer.h"

#include <limits>

#include "base/error.h"

namespace cepe {

TokenId token_id_from(int64_t id, std::string_view where) {
  require(id >= 0 && id <= std::numeric_limits<TokenId>::max(), "{}: {} is no token id, expected 0 to {}", where, id,
          std::numeric_limits<TokenId>::max());
  return static_cast<TokenId>(id);
}

}  // namespace cepe
