// Encoders that are not made by add_cepe_parts(model, options) of cepe.h.
#pragma once

#include "model/cepe.h"

namespace cepe {

// As add_cepe_parts(model, options), with an encoder that is there already, on an embedding of its own
// (EncoderEmbeddings::own), for example one of the masked-LM stage; it may have more rows than the decoder's
// vocabulary, for the mask token. Its tensors are shared. Error where its width exceeds the decoder's or its vocabulary
// falls short.
void add_cepe_parts(Cepe& model, const AdditionOptions& options, const Stack& encoder);

// The configuration of an encoder that is a decoder's first layers, made bidirectional.
StackConfig encoder_config_of(const StackConfig& decoder, int64_t layers, int64_t window);

}  // namespace cepe
