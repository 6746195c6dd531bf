// The baselines of `cepe eval lm`: other ways to read a context than cepe's, on the same tokens.
//
//   full       full attention: context and text in the frozen decoder's own window, where they fit
//   pi         beyond the window, by position interpolation (Chen et al. 2023, arXiv 2306.15595): all frequencies of
//   the
//              rotary positions are divided by the factor s = tokens / window
//   ntk        by NTK-aware scaling: the base theta becomes theta * s^(d / (d - 2)), d being the head's size
//   dynamic    by dynamic NTK scaling with the factor s, as Hugging Face's: theta * (s * s - (s - 1))^(d / (d - 2))
//   yarn       by YaRN (Peng et al. 2023, arXiv 2309.00071) with the factor s, without training
//   streaming  StreamingLLM (model/layer/streaming_layers.h)
//   replug     RePlug (model/replug.h): the context's chunks, each before the text in a forward of its own
//
// pi, ntk, dynamic and yarn have a factor of their own for each length: the least that makes it fit.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "eval/lm/reader.h"
#include "text/tokenizer/tokenizer.h"

namespace cepe {

struct BaselineOptions {
  int64_t decoder_tokens = 2048;
  int64_t attention_tokens = 16384;  // longer texts, context included, pi, ntk, dynamic and yarn do not read
  int64_t sinks = 4;                 // streaming
  int64_t recent = 0;                // streaming; 0: what sinks and token itself leave of decoder_tokens
  int64_t replug_chunk = 256;        // tokens of a chunk
  int64_t replug_passages = 10;      // the chunks with the best BM25 scores; 0: all
  bool replug_uniform = false;       // they count alike, not by the softmax of their scores
  double replug_temperature = 10;    // of that softmax
};

// "full", "pi", "ntk", "dynamic", "yarn", "streaming", "replug".
const std::vector<std::string>& baseline_names();

// The reader of a baseline. Model and tokenizer (of replug alone) must outlive it. Error where the decoder's rotary
// positions are scaled already and the baseline would scale them, and where cache or chunk exceed the window.
std::unique_ptr<LmReader> baseline_reader(const std::string& name, const Cepe& model, const Tokenizer& tokenizer,
                                          const BaselineOptions& options);

// A decoder without the encoder whose rotary positions are scaled to hold `tokens` beyond decoder_window(); it shares
// all tensors with the model. name: pi, ntk, dynamic or yarn.
Cepe stretched_decoder(const Cepe& model, const std::string& name, int64_t tokens);

}  // namespace cepe
