// StreamingLLM (Xiao et al. 2023, arXiv 2309.17453), a baseline: a decoder that keeps the keys and values of the text's
// first tokens, the attention sinks, and of the most recent ones, and forgets what is between.
//
// The definition is a token at a time: a token attends to itself and to the cache, which holds the first `sinks` tokens
// and the last `recent` ones before it. Keys are kept before rotation; all are rotated at their place in the cache,
// not in the text.
//
// Here a block of tokens is computed at once, by an equal formula. Rotation only makes the distance of two tokens
// matter. Within the cache the distance to a recent token is the one in the text, so that query and key may be rotated
// at their places in the text. A sink i stands at place i, and the query at place min(t, sinks + recent), t being its
// place in the text: a second rotation of the query serves the sinks. What a token leaves in the cache was computed
// when it was the newest, so that the layers are those of one pass with a banded mask.
#pragma once

#include <cstdint>

#include "model/cepe.h"

namespace cepe {

struct StreamingInput {
  at::Tensor ids_BT;           // int64: the whole text, however long
  int64_t sinks = 4;           // at least 0
  int64_t recent = 2044;       // at least 1; the tokens before a token, sinks aside, that it attends to
  int64_t last = 0;            // only the last so many tokens' states are wanted; 0: all
  int64_t block_tokens = 512;  // computed at once; the result does not depend on it
};
// -> hidden states after the final norm, (B, T or last, D), without gradients. Context layers read nothing. Error where
// sinks, recent tokens and the token itself exceed the decoder's window, and where the frequencies of the rotary
// positions change with the length (RopeKind::dynamic).
at::Tensor decode_streaming(const Cepe& model, const StreamingInput& input);

}  // namespace cepe
