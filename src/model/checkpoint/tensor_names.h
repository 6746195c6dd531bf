// The only table of foreign tensor names: what GGUF files call the parameters whose published (Hugging Face) names the
// rest of the program uses, and how their rows are ordered.
#pragma once

#include <cstdint>
#include <string>

namespace cepe {

struct TensorNames {
  // llama.cpp stores the rows of q and k of Llama models for interleaved rotary pairs.
  bool permuted_rotary = false;
  int64_t num_heads = 0, num_kv_heads = 0;

  // "model.layers.3.self_attn.q_proj.weight" -> "blk.3.attn_q.weight"
  std::string file_name(const std::string& published) const;
  // Heads whose rows have to be put back into halves, (H, K/2, 2) -> (H, 2, K/2); 0: the rows are in order.
  int64_t permuted_heads(const std::string& published) const;
};

}  // namespace cepe
