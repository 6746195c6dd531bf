// The model: encoder, decoder with cross-attention, and both as one. Yen, Gao, Chen 2024, arXiv 2402.16617.
//
//   chunks -> encode() -> Latents -> decode() -> hidden states -> logits() or a loss
//
// Shape suffixes as in layers.h.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/cross_attention.h"
#include "model/layers.h"

namespace cepe {

struct Encoder {
  Stack stack;              // embedding undefined unless EncoderEmbeddings::own
  Linear embed_projection;  // (E, D), EncoderEmbeddings::decoder_projected only
};

struct Decoder {
  Stack stack;
  at::Tensor lm_head;  // (V, D); the embedding itself when tied; undefined where quantised and not tied
  std::shared_ptr<const QuantisedWeight> quantised_head;  // the head in 8 or 4 bits (weight_type.h), used instead
  Matrix head() const { return {lm_head, quantised_head}; }
};

// Functions that take it as const& change nothing in it: any number of threads may encode and decode with one model.
struct Cepe {
  CepeConfig config;
  Decoder decoder;
  std::optional<Encoder> encoder;

  const at::Tensor& any_weight() const { return decoder.stack.norm; }
  at::Device device() const { return any_weight().device(); }
  at::ScalarType dtype() const { return any_weight().scalar_type(); }
};

// Contexts cut into chunks of one length, padded where they are shorter: each is encoded by itself, its positions
// starting at 0.
struct ContextChunks {
  at::Tensor ids_BML;   // int64
  at::Tensor mask_BML;  // bool, true = a real token; undefined: all are. A chunk may be wholly padding.
};

struct ContextEncodeOptions {
  // Chunks encoded at once, so that memory stays bounded however long the context is. 0: all of them (training), or
  // without gradients as many as suit the device.
  int64_t chunks_at_once = 0;
};
// -> Latents with S = M * pooled_length(L). States of padding are whatever the encoder gives; the mask excludes them.
// Error when the model has no encoder, or a chunk is longer than the encoder's window.
Latents encode(const Cepe& model, const ContextChunks& chunks, const ContextEncodeOptions& options = {});

// Chunks of lengths of their own, one after another without padding.
struct PackedChunks {
  at::Tensor ids_N;              // int64, N = the sum of the lengths
  std::vector<int64_t> lengths;  // 1 .. the encoder's window each
};
// The same without padding: all tokens are rows of one matrix for projections, norms and the feed-forward part, each
// chunk attends to itself, its positions starting at 0. For contexts whose chunks differ in length: padding to the
// longest costs time, and its states are attended to. Chunks of one length are encoded together, whatever their order.
// -> Latents (1, N, E) in the order of the chunks (of each pooled_length() states), no mask. Errors as above.
Latents encode_packed(const Cepe& model, const PackedChunks& chunks, const ContextEncodeOptions& options = {});

// (B, M, L) -> (B, M * pooled_length(L)): which of the states of such chunks hold a real token.
at::Tensor states_mask(const Cepe& model, const at::Tensor& mask_BML);

// Padded chunks by the layers of one encoder stack on embedded input (B, L, E), with its final norm; used by
// masked_lm.h.
at::Tensor encode_embedded(const Stack& stack, at::Tensor x_BLE, const at::Tensor& mask_BL);

struct DecodeInput {
  at::Tensor ids_BT;                 // int64
  const Latents* context = nullptr;  // null or empty: a plain decoder
  KeyValueCache* cache = nullptr;    // appended to when given
  CrossAttentionForm form = CrossAttentionForm::automatic;
  int64_t last = 0;               // only the last so many tokens' states are wanted; 0: all
  at::Tensor below_BTD;           // decode_below() of these ids, where it is at hand; not together with a cache
  int64_t block_tokens = 0;       // of the context in materialised cross-attention; 0: as memory allows
  AttentionMass* mass = nullptr;  // of these tokens on the context's chunks, to be added to
  // To be appended to: of each layer that reads the context the last token's queries (CrossAttentionOptions).
  std::vector<at::Tensor>* context_queries = nullptr;
};
// The decoder's layers below its first cross-attention, (B, T, D): nothing in them depends on the context, so that the
// same tokens can be decoded with one context after another for the price of the upper layers.
at::Tensor decode_below(const Cepe& model, const at::Tensor& ids_BT);

// -> hidden states after the final norm, (B, T or last, D). Error, here and in decode_below(), beyond a sliding window,
// whose mask is not computed; rotary positions beyond the window trained on are.
at::Tensor decode(const Cepe& model, const DecodeInput& input);

// The head's matrix (V, D), widened where it is quantised.
at::Tensor head_weight(const Cepe& model);

// (..., D) -> (..., V)
at::Tensor logits(const Cepe& model, const at::Tensor& hidden);

// One named parameter of a model: the only description, used to load, save, count, freeze and optimise.
struct Parameter {
  enum class Part { decoder, encoder, cross_attention };
  std::string name;  // as published: model.layers.3.cross_attn.k_proj.weight
  std::vector<int64_t> shape;
  Part part;
  at::Tensor* value;  // inside the model
};
// Makes layers, encoder and cross-attention (empty) as the config says, where the model does not have them yet: a
// default Cepe with its config set can then be loaded into.
void create_modules(Cepe& model);
// In checkpoint order. With tied embeddings lm_head is not listed. Error where create_modules() is missing.
std::vector<Parameter> parameters(Cepe& model);
// A lone stack, whose layers are made, under a prefix ("model."), with its norm and embedding.
void append_stack_parameters(Stack& stack, const std::string& prefix, Parameter::Part part, bool with_embedding,
                             std::vector<Parameter>& out);

// The trained parts, encoder and cross-attention: the decoder is frozen at every stage.
std::vector<Parameter> trainable_parameters(Cepe& model);
void set_trainable(Cepe& model, bool trainable);

// A model whose tensors are the given one's cast to dtype; gradients flow back through the cast to the
// originals (float32 master weights, bfloat16 arithmetic). Tensors of that dtype already are shared.
Cepe cast(const Cepe& model, at::ScalarType dtype);

// Adds the two CEPE parts to a plain decoder, for training from scratch.
struct AdditionOptions {
  int64_t encoder_layers = 8;           // taken from the decoder's first layers, made bidirectional
  int64_t cross_attention_layers = 15;  // the decoder's last so many
  bool zero_output = true;              // cross-attention's o starts at zero: the model starts as the plain decoder
  int64_t encoder_window = 512;         // max_positions of the encoder
  int64_t chunk_length = 256;
};
// Encoder = the decoder's first layers on its frozen embedding (EncoderEmbeddings::decoder), final norm copied;
// cross-attention q and o copied from the layer's self-attention, k and v the first E columns of its k and v, the norm
// from post_attention_layernorm (method: "Training"). The new tensors are float32. Published cross-attention has
// neither biases nor norms of its heads: where self-attention has them (Qwen2's biases on q, k and v, Llama's
// attention_bias, Qwen3's head norms) cross-attention takes the weights alone, and the encoder, a copy of whole layers,
// keeps them.
void add_cepe_parts(Cepe& model, const AdditionOptions& options);

}  // namespace cepe
