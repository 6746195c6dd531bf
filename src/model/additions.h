// Encoders that are not made by add_cepe_parts(model, options) of cepe.h.
#pragma once

#include "model/cepe.h"

namespace cepe {

// A copy in float32 that shares nothing with the original: the decoder stays untouched whatever happens to the copy.
at::Tensor float32_copy(const at::Tensor& value);

// As add_cepe_parts(model, options), with an encoder that is there already, on an embedding of its own
// (EncoderEmbeddings::own), for example one of the masked-LM stage; it may have more rows than the decoder's,
// for the mask token, or fewer, where the decoder's are padded: who reads with it checks readable_tokens(). Its tensors
// are shared. Error where its width exceeds the decoder's.
void add_cepe_parts(Cepe& model, const AdditionOptions& options, const Stack& encoder);

// Sets the variants of a model (cross_variants.h), before its parts are added or afterwards. Weights that parts do not
// have yet are zeros: positions then change nothing yet, a null key has the score 0. Error naming `where` on values
// that make no sense.
void set_cross_variants(Cepe& model, const CrossVariants& variants, const std::string& where);

// Token ids below this have a row in the embeddings of decoder and encoder alike.
int64_t readable_tokens(const CepeConfig& config);

// The configuration of an encoder that is a decoder's first layers, made bidirectional.
StackConfig encoder_config_of(const StackConfig& decoder, int64_t layers, int64_t window);

}  // namespace cepe
