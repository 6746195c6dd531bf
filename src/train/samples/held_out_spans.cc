#include "train/samples/held_out_spans.h"

#include <algorithm>

namespace cepe {
namespace {

constexpr uint64_t kSeed = 0x76616C6964;

std::vector<int32_t> domains_with_spans(const Corpus& corpus, int64_t span_tokens) {
  std::vector<int32_t> eligible;
  for (size_t d = 0; d < corpus.domains.size(); ++d) {
    const auto fits = [&](const Corpus::Document& document) {
      return document.domain == static_cast<int32_t>(d) && document.length >= span_tokens;
    };
    if (std::any_of(corpus.documents.begin(), corpus.documents.end(), fits))
      eligible.push_back(static_cast<int32_t>(d));
  }
  return eligible;
}

void draw(const Corpus& corpus, const SpanSamplerOptions& options, int64_t count, HeldOutSpans& out) {
  const SpanSampler sampler(corpus, options);
  for (int64_t i = 0; i < count; ++i) {
    HeldOutSpan span;
    span.tokens.resize(static_cast<size_t>(options.span_tokens));
    span.document = sampler.draw(0, static_cast<uint64_t>(i), span.tokens.data());
    span.domain = out.domains.size() - 1;
    out.spans.push_back(std::move(span));
  }
}

}  // namespace

HeldOutSpans draw_held_out_spans(const Corpus& corpus, int64_t span_tokens, int64_t count) {
  const std::vector<int32_t> eligible = domains_with_spans(corpus, span_tokens);
  SpanSamplerOptions options;
  options.span_tokens = span_tokens;
  options.seed = kSeed;
  HeldOutSpans out;
  if (eligible.empty()) {
    options.filtered = 0;
    options.concatenated = 1;
    out.domains.push_back("concatenated");
    draw(corpus, options, count, out);
  }
  const auto domains = static_cast<int64_t>(eligible.size());
  for (int64_t i = 0; i < domains; ++i) {
    options.only_domain = eligible[static_cast<size_t>(i)];
    const int64_t share = count / domains + (i < count % domains ? 1 : 0);
    if (share == 0) continue;
    out.domains.push_back(corpus.domains[static_cast<size_t>(*options.only_domain)]);
    draw(corpus, options, share, out);
  }
  return out;
}

}  // namespace cepe
