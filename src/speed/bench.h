// The speed of a model: what `cepe bench` times, the work it divides by those times, and the device's own measured
// limits to compare with (docs/bench.md).
#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <string>
#include <vector>

#include "model/cepe.h"
#include "model/cost_model.h"
#include "model/decode_step.h"

namespace cepe {

// What is timed, in llama-bench's terms and with a context of S tokens:
//   enc<S>        the encoder reads S tokens, in chunks of the model's length, the last one shorter
//   pp<T>@c<S>    the decoder reads T tokens over S context tokens that are encoded already, to the last one's logits
//   score<T>@c<S> both: S tokens are encoded, T decoded, with the logits of all T
//   tg<N>@c<S>    N tokens are written one after another over S encoded tokens, after a window of tokens read before
// @c0, or nothing: the plain decoder.
struct BenchTest {
  enum class Kind { encode, prefill, score, generate };
  Kind kind = Kind::prefill;
  int64_t tokens = 0;        // T or N; 0 for enc
  int64_t context = 0;       // S
  std::string name() const;  // the canonical spelling
};
// Error when the spelling is none of those above.
BenchTest parse_bench_test(const std::string& spelling);

// A test for a batch of sequences.
struct BenchCase {
  BenchTest test;
  int64_t batch = 1;
  bool shared = false;  // one context for the whole batch; else each sequence has its own
  CrossAttentionForm form = CrossAttentionForm::automatic;

  int64_t contexts() const { return test.context == 0 ? 0 : shared ? 1 : batch; }
};

struct BenchOptions {
  int64_t window_tokens = 128;  // tg: tokens in the decoder's window before the first is written
  int64_t repetitions = 5;      // timed, after
  int64_t warmup = 1;           // so many that are not
  // tg with an automatic form: bytes that the context's kept keys and values may take, as in `cepe generate`.
  int64_t context_cache_bytes = 4'000'000'000;
  bool int8_latents = false;               // contexts are kept in 8 bits a number (model/cross_attention.h)
  bool graph = true;                       // tg on a CUDA device: steps are a graph (model/decode_step.h)
  StepChain chain = StepChain::automatic;  // whether products that follow each other are one kernel
  bool exclusive_device = false;           // no other process uses the device (model/decode_step.h)
};

// All combinations, test by test. Where contexts or forms make no difference (no context, a batch of one, an encoder's
// test, which reads a context for each sequence) a case comes once.
struct BenchSweep {
  std::vector<BenchTest> tests;
  std::vector<int64_t> batches = {1};
  std::vector<bool> shared = {false};
  std::vector<CrossAttentionForm> forms = {CrossAttentionForm::automatic};
};
std::vector<BenchCase> bench_cases(const BenchSweep& sweep);

// Error, one sentence, where a model cannot do a case: a context without an encoder, more tokens than the decoder's
// window holds, a batch or repetitions below one.
void check_bench_case(const CepeConfig& config, const BenchCase& what, const BenchOptions& options);

// Floating-point operations, a multiplication and an addition being two, and the bytes that must be read.
struct Work {
  double operations = 0;
  double bytes = 0;
};
// What a count goes by, beside the sizes.
struct WorkBasis {
  // All of one size: nothing is quantised. Forms are chosen by operation counts.
  WorkBasis(double bytes)
      : element_bytes(bytes), matrix_bytes(bytes), encoder_bytes(bytes), head_bytes(bytes), latent_bytes(bytes) {}
  double element_bytes;  // of a key or value, and a weight that is not quantised
  double matrix_bytes;   // of a weight of the decoder's layers, quantised or not (weight_type.h), with its scales
  double encoder_bytes;  // of a weight of the encoder's layers
  double head_bytes;     // of a weight of the head
  double latent_bytes;   // of a number of a state
  DeviceRates rates = equal_rates();  // by which automatic forms are chosen
};
WorkBasis work_basis(const Cepe& model, const BenchOptions& options);

// One repetition of a case.
//
// Operations: all matrix products of weights with the rows that pass through them (the decoder's last layer only for
// rows whose logits are wanted); self-attention by the pairs that its mask allows, 4 H K each; cross-attention in the
// form that is taken (model/cross_attention.h); the head. Norms, rotations, softmax and embeddings are left out.
// Bytes: weight matrices once a pass (each written token is a pass); latents, or keys and values that are kept, once a
// cross-attention layer for each distinct context; the key-value cache once a pass. Activations, what
// materialised keys and values take, and what caches of the processor save or lose, are left out: no implementation
// needs to read fewer.
Work count_work(const CepeConfig& config, const BenchCase& what, const BenchOptions& options, const WorkBasis& basis);

// The form that decoding takes in all layers but the last: the last one may have fewer query rows. An automatic tg
// keeps keys and values where that is faster for the tokens it writes (cached), the others never.
CrossAttentionForm form_taken(const CepeConfig& config, const BenchCase& what, const BenchOptions& options,
                              const WorkBasis& basis);

// What the device does at best in this process: one large matrix product of the type, and one large copy (bytes read
// and bytes written both count). The fastest of several.
struct Ceilings {
  double operations_per_second = 0;
  double bytes_per_second = 0;
};
Ceilings measure_ceilings(const c10::Device& device, c10::ScalarType dtype);

// What came out. Times are of a repetition; of tg, of one step (a token of each sequence).
struct BenchRecord {
  BenchCase what;
  std::string form;             // of cross-attention, as taken; empty where none is
  std::vector<double> seconds;  // of each repetition, in order; empty: see failure
  double median_seconds = 0;
  double tokens_per_second = 0;  // of the whole batch: encoded, read or written tokens; score: both kinds
  double operations_per_second = 0;
  double bytes_per_second = 0;
  uint64_t peak_bytes = 0;          // weights included; on a CPU of the process, on a GPU of tensors (speed/meter.h)
  int64_t context_token_bytes = 0;  // what a context token costs while it is kept; 0 without context
  std::string failure;              // "out of memory" on a GPU
};
// Token ids and, where encoding is no part of the test, latents are random: made before the clock runs. Latents are
// normalised as the encoder's last norm leaves them.
BenchRecord run_bench(const Cepe& model, const BenchCase& what, const BenchOptions& options);

// The share of the ceiling that the case comes nearest to.
struct PeakShare {
  double share = 0;
  bool by_bytes = false;
};
PeakShare peak_share(const BenchRecord& record, const Ceilings& ceilings);

// A whole run, as it is shown and kept.
struct BenchReport {
  std::string model, version, device, dtype;
  uint64_t parameters = 0, weight_bytes = 0;
  int64_t chunk_length = 0;  // 0: no encoder
  Ceilings ceilings;
  BenchOptions options;
  std::vector<BenchRecord> records;
};
std::string bench_heading(const BenchReport& report);  // model, device and ceilings, a line each
std::string bench_table(const BenchReport& report);
std::string bench_csv(const BenchReport& report);  // a header and a line a record
std::string bench_json(const BenchReport& report);

}  // namespace cepe
