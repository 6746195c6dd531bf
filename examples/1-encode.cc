// Lesson 1: a text becomes a context.
//
// The text's tokens are cut into chunks, the encoder reads each chunk by itself, and its last hidden states, the
// latents, are all that the decoder will ever see of the text: one vector a token, whatever the number of layers.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include "base/error.h"
#include "context/encode_context.h"
#include "context/read_context.h"
#include "model/checkpoint/checkpoint.h"

using namespace cepe;

// |a - b| / |b| of the states of two contexts.
double difference(const Context& a, const Context& b) {
  const at::Tensor of_a = dense_states(a.latents, 0, a.tokens(), at::kFloat);
  const at::Tensor of_b = dense_states(b.latents, 0, b.tokens(), at::kFloat);
  return ((of_a - of_b).norm() / of_b.norm()).item<double>();
}

int64_t bytes_a_token(const Context& context) {
  const Latents& latents = context.latents;
  const size_t scales = latents.scales_BS.defined() ? latents.scales_BS.nbytes() : 0;
  return static_cast<int64_t>(latents.states_BSE.nbytes() + scales) / context.tokens();
}

int main(int argc, char** argv) try {
  require(argc == 3, "usage: 1-encode MODEL TEXT");
  const OpenedModel opened = open_model(find_model(argv[1]));
  const std::vector<TextChunk> text = read_context(opened, {argv[2]});
  const auto chunks = std::span(text).first(std::min<size_t>(text.size(), 8));

  const Context context = encode_context(opened.model, chunks);
  fmt::print("{} chunks, {} tokens, {} bytes a token\n", context.chunks.size(), context.tokens(),
             bytes_a_token(context));

  // A chunk's states depend on its own tokens alone. So contexts are cut and joined without encoding anything again.
  const Context halves[] = {encode_context(opened.model, chunks.first(chunks.size() / 2)),
                            encode_context(opened.model, chunks.subspan(chunks.size() / 2))};
  fmt::print("two halves that were encoded apart, joined: {}\n",
             difference(join(halves), context) < 1e-4 ? "the same states" : "other states");

  const Context narrow = quantise(context);
  fmt::print("in 8 bits: {} bytes a token, states differ by {:.1f} %\n", bytes_a_token(narrow),
             100 * difference(narrow, context));
} catch (const Error& error) {
  fmt::print(stderr, "{}\n", error.what());
  return 1;
}
