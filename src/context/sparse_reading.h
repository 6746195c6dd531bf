// Sparse reading: what one sequence reads of its context while it writes. After the prompt, and again after every so
// many tokens, the queries of the last token choose the blocks of kept keys that hold a share of each head's attention
// (choose_part() of model/cross_attention.h); the tokens that follow read these alone.
//
//   SparseReading reading(latents, 0.99, 32);                  // latents with kept keys and values, on a CPU
//   decode(... .context = &latents, .context_queries = &queries);   // the prompt
//   for (...) {
//     reading.asked(queries, 0);
//     decode(... .context = &reading.next(), .context_queries = &queries);
//   }
#pragma once

#include <cstdint>
#include <vector>

#include "model/cross_attention.h"

namespace cepe {

// Not thread-safe.
class SparseReading {
 public:
  // Tokens of the context are shared, not copied. Throws Error where nothing is kept, or a value is out of range:
  // 0 < share <= 1, again >= 1.
  SparseReading(const Latents& whole, double share, int64_t again);

  // The queries of the token that was read last, of each layer that reads the context (B, 1, H, K), this sequence's
  // being row `row`. May be left out where due() is false.
  void asked(const std::vector<at::Tensor>& queries, int64_t row);
  // Whether the next token's part is chosen by them.
  bool due() const { return tokens_ % again_ == 0; }
  // What the next token reads; chosen here where that is due. Throws Error where it is and nothing was asked.
  const Latents& next();
  // What next() gave last.
  const Latents& latents() const { return part_; }

  // Of the kept keys and values, what tokens read as a mean over tokens, layers and heads; 1 before the first.
  double mean_share() const { return tokens_ == 0 ? 1 : shares_ / static_cast<double>(tokens_); }

 private:
  std::shared_ptr<const ContextCache> whole_;
  Latents part_;
  double share_;
  int64_t again_;
  std::vector<at::Tensor> asked_;
  int64_t tokens_ = 0;  // that next() was called for
  double part_share_ = 1, shares_ = 0;
};

}  // namespace cepe
