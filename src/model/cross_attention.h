// Cross-attention over the encoder's states, in its three forms, which compute the same (docs/cross-attention.md).
//
// materialised: K = E Wk^T and V = E Wv^T for all S context tokens, then attention with head size K. Per layer
//   4 S E G K operations once, and 4 S H K a query row. A context that is longer than a block is read block by block,
//   merged by log-sum-exp, so that memory stays bounded however long it is; where gradients are wanted it is one block.
// absorbed: q.(Wk e) = (Wk^T q).e and sum p Wv e = Wv (sum p e), so the query moves into the encoder's space and
//   attention runs on the states themselves, one shared key-value head of size E. 4 S H E operations a query row,
//   no projection of S rows. Cheaper below about E G K / (H (E - K)) query rows (method: "Absorbed cross-attention").
// cached: materialised with keys and values that are kept for the context: 2 S G K numbers a layer held, 4 S H K
//   operations a query row and no projection.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "model/cost_model.h"
#include "model/layers.h"
#include "ops/attention_mass/attention_mass.h"
#include "ops/context/context_attention.h"
#include "ops/latent/context_table.h"

namespace cepe {

class StepExecutor;

// Keys and values of a context for every layer that reads it.
struct ContextCache {
  std::vector<ContextKeysValues> layers;  // one for each decoder layer; undefined where it has no cross-attention
  int64_t bytes() const;
  double number_bytes() const;  // of one key or value; 0: there is none
  // The blocks that are read of all layers' (choose_part()), as a share of all that there are.
  double read_share() const;
};

// The encoder's states of a context: all a context token costs, E numbers, read by every layer.
struct Latents {
  at::Tensor states_BSE;
  at::Tensor mask_BS;  // bool, true = a real token; undefined: all are
  // Keys and values of exactly these states, where they are kept (cache_context), or the part of them that is read
  // (choose_part): whoever changes the states drops it.
  std::shared_ptr<const ContextCache> cache = nullptr;
  // (B, S) float32 where states are in 8 bits (quantize); undefined: they are of the model's type.
  at::Tensor scales_BS = {};
  int64_t tokens() const { return states_BSE.defined() ? states_BSE.size(1) : 0; }
};

// The same states in 8 bits a number (ops/latent/latent_int8.h): E + 4 bytes a context token. No gradients. Kept keys
// and values are left behind.
Latents quantize(const Latents& latents);
// Tokens first .. first + count as numbers of the type: (B, count, E).
at::Tensor dense_states(const Latents& latents, int64_t first, int64_t count, at::ScalarType dtype);

// Projects a context's keys and values for all layers, block by block, for the cached form. No gradients. kept: the
// type that they are kept in (make_context_keys_values()); nothing: the model's.
std::shared_ptr<const ContextCache> cache_context(const Stack& decoder, const Latents& latents,
                                                  std::optional<at::ScalarType> kept = std::nullopt);

// Sparse reading: of kept keys and values, without copying them, each layer's key-value heads read the fewest blocks
// that hold `share` of the attention of these queries (ops/context/context_blocks.h). Costs a read of all keys.
// queries (B, 1, H, K): of each layer that reads the context, as DecodeInput::context_queries has them. mask: the
// latents'.
std::shared_ptr<const ContextCache> choose_part(const ContextCache& whole, std::span<const at::Tensor> queries,
                                                const at::Tensor& mask_BS, double share);
// Whether the latents' kept keys and values are such a part, which the cached form alone reads.
bool reads_part(const Latents& latents);

// How much of what tokens read goes to each chunk of their context: the softmax weights of a chunk's tokens, summed, as
// a mean over heads, layers and tokens. It is always computed from absorbed scores, whatever the form, so it costs a
// read of the latents for each layer and 32 rows (tokens x heads); what cross-attention itself gives does not change.
// No gradients.
struct AttentionMass {
  ChunkBounds chunks;
  int64_t last = 1;        // of each call so many tokens count, from its end; 0: all
  at::Tensor sum_BM = {};  // float64, over the rows that were read; undefined before the first
  int64_t rows = 0;        // tokens x heads x layers of each sequence
  // (B, M) float64 on the CPU, a sequence's sum being 1; zeros where nothing was read.
  at::Tensor mean() const;
};

struct CrossAttentionOptions {
  CrossAttentionForm form = CrossAttentionForm::automatic;
  int64_t block_tokens = 0;                 // of a block of the materialised form; 0: what bounds memory on the device
  const ContextKeysValues* kept = nullptr;  // this layer's, of the same latents; cached needs them
  AttentionMass* mass = nullptr;            // to be added to
  // To be appended to: the last token's queries as they meet the keys, (B, 1, H, K).
  std::vector<at::Tensor>* queries = nullptr;
};
// (C), in float32 or float64: query_factor() for each of the contexts.
at::Tensor query_factors(const CrossVariants& variants, const Latents& latents);

// What stands between the products with q and with o: q (B, T, H, K) -> (B, T, H, K). Latents may have batch 1 for a
// context that all rows of the batch share. Error when the cached form is asked for and nothing is kept, or gradients
// are wanted through it, or a form is asked for that does not compute the decoder's variants.
at::Tensor read_context(const CrossAttention& weights, const StackConfig& decoder, const at::Tensor& q_BTHK,
                        const Latents& latents, const CrossAttentionOptions& options = {});

// A context, and the sequences first .. first + count of a batch that read it.
struct StepContext {
  Latents latents;  // one that they share, or one for each of them
  int64_t first = 0, count = 1;
};
// What the sequences of a batch read in a layer, in the order of the sequences.
struct BatchContexts {
  std::span<const StepContext> rows;
  const ContextTable* table = nullptr;  // of the same contexts: the absorbed form reads them in one pass
  CrossAttentionForm form = CrossAttentionForm::absorbed;  // of all; not automatic
  size_t layer = 0;                                        // of the decoder: whose kept keys and values are read
  // (B, 1, 1, 1): query_factor() of each sequence's context, 1 without one; undefined: queries are not scaled.
  at::Tensor query_factors_B = {};
  std::vector<at::Tensor>* queries = nullptr;  // as CrossAttentionOptions has them; not in a step that is a graph
};
// The same in a decoding step, of a batch whose sequences read contexts of different lengths, or none: those outside
// all ranges get zeros. q may be a product that the executor has not launched; so may be what is returned. No
// gradients. Between the work that wrote the contexts' states and this call stands an operation that is not one of our
// kernels and waits for all before it.
at::Tensor read_contexts(const CrossAttention& weights, const StackConfig& decoder, const at::Tensor& q_BTHK,
                         const BatchContexts& contexts, StepExecutor& executor);

// The work of cross-attention in one layer: query_rows tokens that ask of each context, no later calls.
CrossAttentionWork cross_attention_work(const StackConfig& decoder, const Latents& latents, int64_t query_rows);

// The form with the fewer operations of those that keep nothing, for so many query rows: what training takes, where the
// device's rates play no part.
CrossAttentionForm choose_cross_attention_form(const StackConfig& decoder, int64_t encoder_width, int64_t query_rows);

}  // namespace cepe
