// Who reads the contexts of windows: each reader scores the same tokens with a context read in its own way.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "eval/lm/window_batch.h"
#include "model/cepe.h"
#include "speed/meter.h"

namespace cepe {

// A row that is asked of a reader.
struct WantedRow {
  Control control;
  int64_t context_tokens;
  size_t row;  // the asker's number of it
};
// The batch's windows scored in a row: of each window the mean loss of its scored tokens (nats), and what a run with
// this row alone would have spent on all of them.
struct RowScores {
  std::vector<double> nll;
  Cost cost;
};
using OnRowScores = std::function<void(size_t row, const RowScores& scores)>;

class LmReader {
 public:
  virtual ~LmReader() = default;
  // Why it does not read a context of so many tokens before the decoder's, as the end of a sentence; empty: it does.
  virtual std::string why_not(int64_t context_tokens) const = 0;
  bool reads(int64_t context_tokens) const { return why_not(context_tokens).empty(); }
  // Does once what no row should pay for: tables of rotary positions for a context of so many tokens, which it reads,
  // and a first look at the weights.
  virtual void prepare(int64_t context_tokens) const {}
  // Scores the batch in each of the rows, which it reads: control by control in the order of Control, contexts
  // ascending. Without gradients.
  virtual void score(const WindowBatch& batch, std::span<const WantedRow> rows, const OnRowScores& scored) const = 0;
};

// Losses of the batch's labels, of hidden states (B, scored, D) of a model: the mean of each window.
std::vector<double> mean_losses(const Cepe& model, const at::Tensor& hidden_BTD, const at::Tensor& labels_BT);
// Makes the decoder's table of rotary positions for so many tokens, which it keeps.
void make_rotary_table(const Cepe& model, int64_t tokens);
// The mean of each row of losses (B, scored).
std::vector<double> row_means(const at::Tensor& losses_BT);

// The model as it is meant: contexts through its encoder, in chunks. A context of 0 tokens, which a plain decoder has
// as well, is the decoder alone. The longest context's chunks are encoded once; a shorter one is its most recent
// chunks; shuffled chunks share the own ones' states. What rows share is charged to each of them. int8_latents: the
// encoder's states in 8 bits. The model must outlive the reader.
std::unique_ptr<LmReader> encoder_reader(const Cepe& model, bool int8_latents);

// All lengths are of context and text together.
struct WindowReaderOptions {
  int64_t decoder_tokens = 0;
  int64_t window = 0;                // what does not fit is not read
  int64_t attention_tokens = 0;      // nor is what is longer, for its cost; 0: no such bound
  bool alone = false;                // a context of 0 tokens is read as well
  int64_t tokens_at_once = 1 << 16;  // windows are decoded together up to so many tokens; a longer one is alone
};
// The text and its context as one text in the window of a decoder, without the encoder: full attention. Memory does not
// grow with the batch beyond tokens_at_once. The model must outlive the reader.
std::unique_ptr<LmReader> window_reader(const Cepe& model, const WindowReaderOptions& options);
// Why full attention does not read more than attention_tokens, as LmReader::why_not().
std::string beyond_attention(int64_t attention_tokens);

}  // namespace cepe
