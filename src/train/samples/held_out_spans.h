// The fixed samples of a validation on documents. No torch here.
#pragma once

#include <string>
#include <vector>

#include "train/samples/span_sampler.h"

namespace cepe {

struct HeldOutSpan {
  std::vector<int64_t> tokens;
  int64_t document = 0;  // index into Corpus::documents, in which it starts
  size_t domain = 0;     // index into HeldOutSpans::domains
};

struct HeldOutSpans {
  std::vector<std::string> domains;
  std::vector<HeldOutSpan> spans;  // domain by domain
};

// `count` spans, as many from each domain that has documents long enough; where none has, from all documents
// concatenated. Always the same ones.
HeldOutSpans draw_held_out_spans(const Corpus& corpus, int64_t span_tokens, int64_t count);

}  // namespace cepe
