// Writing one token for each sequence of a batch, without overhead: the sequences stand at positions of their own and
// read contexts of their own; on a CUDA device the whole step is a graph that the host starts with one call, and
// chosen tokens go from one step into the next without it (docs/kernels/decode_step.md).
//
//   KeyValueCache cache = make_cache(model.decoder.stack, batch, capacity);   // and decode() of the prompts
//   DecodeStep step(model, cache, {.contexts = {{latents, 0, batch}}});
//   step.place(ids, positions);
//   for (...) step.run();
//
// Where sequences come and go, step_buckets.h keeps a step for each of some sizes. A place in a batch that no sequence
// has stays without a context, with any token, and is placed at position 0 whenever the others are placed; it writes
// over itself alone.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "model/cepe.h"
#include "ops/step/sample.h"

namespace cepe {

class StepExecutor;

// On a CUDA device: products that follow each other as one kernel (ops/chain/gemv_chain.h), or each as one of its own.
// Of more sequences than chains are made for: products as skinny GEMMs, or LibTorch's.
enum class StepChain {
  automatic,  // where that was measured to be faster (ops/dispatch.h); chains on an exclusive device only
  always,     // where the kernels are made for the sizes. No other process may use the device
  never,
};
// By these names; Error for any other.
StepChain step_chain_from_name(const std::string& name);

struct DecodeStepOptions {
  std::vector<StepContext> contexts;  // in the order of their sequences; a sequence in none has no context
  // absorbed, materialised or cached (every context then has its cache); automatic: what the cost model finds fastest
  // without keeping more than is kept already.
  CrossAttentionForm form = CrossAttentionForm::automatic;
  bool contexts_change = false;  // set_contexts() follows: contexts are read through a table from the first run on
  // Chooses the tokens that run() places, in the same graph; null: the best ones. Its first rows are the
  // batch's; on the device; must outlive the step.
  DeviceSampler* sampler = nullptr;
  StepChain chain = StepChain::automatic;
  // No other process uses the device, which chains must be sure of. Known without it where the device's compute mode
  // says so (ops/cuda/device.h).
  bool exclusive_device = false;
  bool graph = true;  // on a CUDA device: all runs but the first are one graph (ops/step/captured_work.h)
  // On a CPU: replaced by each run with the queries of each layer that reads contexts, (B, 1, H, K).
  std::vector<at::Tensor>* context_queries = nullptr;
};

// Not thread-safe. No gradients.
class DecodeStep {
 public:
  // cache: of all sequences; the step shares its memory, but not its length: positions are the step's own. The model
  // must outlive the step, and none of its tensors may be replaced meanwhile. Throws Error when the model has rotary
  // frequencies that change with the length (can_step), or contexts do not fit the batch.
  DecodeStep(const Cepe& model, const KeyValueCache& cache, const DecodeStepOptions& options = {});
  ~DecodeStep();
  DecodeStep(const DecodeStep&) = delete;

  // Replaces all contexts, of any lengths, shared or none. The graph stays where they are read through a table before
  // and after: in the absorbed form on a CUDA device, where contexts differ or the step was made with
  // `contexts_change`, unless so many sequences share one that matrix products are faster. Otherwise the form is chosen
  // anew, and the next runs record another graph. Throws Error when contexts do not fit the batch; those before then
  // stay.
  void set_contexts(const std::vector<StepContext>& contexts);

  // The token that each sequence reads next, and its position: the number of tokens that the cache holds before it.
  // Throws Error when an id is not of the vocabulary, or a position not in the cache.
  void place(std::span<const int64_t> ids, std::span<const int64_t> positions);

  // Reads the tokens -> logits of the next ones, (B, V) on the device, valid until the next run. Afterwards the tokens
  // that the sampler chose, without one the best (of equal ones any), are placed at the positions that follow. Throws
  // Error when a sequence's cache is full. A run that throws anything else leaves it open how far the device came: the
  // next run is an Error until place() has said anew where the sequences stand.
  const at::Tensor& run();

  const at::Tensor& ids() const { return ids_B_; }  // (B) int64, on the device: placed next
  const std::vector<int64_t>& positions() const { return positions_; }
  CrossAttentionForm form() const { return form_; }
  bool has_table() const { return table_ != nullptr; }  // contexts are read in one pass

 private:
  bool chains() const;
  CrossAttentionForm chosen_form() const;
  std::vector<TableRange> table_ranges() const;
  bool wants_table() const;
  void prepare();
  void compute();
  void write_query_factors();
  at::Tensor logits_of_walk();
  bool reads_contexts() const { return table_ || !contexts_.empty(); }

  const Cepe& model_;
  KeyValueCache cache_;
  DecodeStepOptions options_;  // but for the contexts
  std::vector<StepContext> contexts_;
  TableBatch table_batch_;
  std::unique_ptr<ContextTable> table_;  // of contexts_
  RotaryTable rotary_;
  CrossAttentionForm form_ = CrossAttentionForm::absorbed;
  bool fused_ = false;              // norms, SwiGLU and residual additions are part of the products
  std::vector<int64_t> positions_;  // as on the device, unless a run failed
  bool run_failed_ = false;         // and place() was not called since
  at::Tensor ids_B_, positions_B_, logits_BV_;
  at::Tensor query_factors_B_;  // (B, 1, 1, 1), of contexts_; undefined where queries are not scaled
  std::unique_ptr<StepExecutor> executor_;
};

// Whether a cache of this capacity can be written step by step: not where rotary frequencies depend on the length
// (RopeKind::dynamic beyond the original window).
bool can_step(const Cepe& model, int64_t capacity);
// Whether steps are faster than decode(): on a CUDA device with the step's kernels; on a CPU with them where all
// products take in what stands around them, which merged matrices in bfloat16, int8 and int4 let them.
bool step_pays(const Cepe& model);

}  // namespace cepe
