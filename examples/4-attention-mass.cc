// Lesson 4: which chunks of its context did an answer come from?
//
// Cross-attention's softmax weights, summed over the tokens of a chunk, are the chunk's share of the reading: its
// attention mass. Here every passage of the command line is a chunk. Many heads spread their attention over all chunks,
// so a chunk's mass says something only beside the even share.
#include <fmt/format.h>

#include "base/error.h"
#include "context/encode_context.h"
#include "generate/context_mass.h"
#include "generate/generator.h"
#include "generate/prompt.h"
#include "model/checkpoint/checkpoint.h"

using namespace cepe;

int main(int argc, char** argv) try {
  require(argc >= 5, "usage: 4-attention-mass MODEL QUESTION PASSAGE PASSAGE...");
  const OpenedModel opened = open_model(find_model(argv[1]));
  std::vector<TextChunk> passages;  // read_context() makes them of files
  for (int i = 3; i < argc; ++i) {
    passages.push_back({opened.tokenizer->encode(argv[i]), {.document = fmt::format("passage {}", i - 2)}});
  }
  const Context context = encode_context(opened.model, passages);

  const std::vector<TokenId> prompt = build_prompt(opened, {.text = argv[2]}).tokens;
  const Generation made = generate({opened.model, *opened.tokenizer, prompt, &context.latents},
                                   {.max_tokens = 24, .end_tokens = end_tokens(opened)});
  fmt::print("{}\n{}\n", argv[2], made.text);

  const auto all = static_cast<int64_t>(context.chunks.size());
  fmt::print("attention mass, the most read first (an even share is {:.1f} %):\n", 100.0 / static_cast<double>(all));
  for (const ChunkMass& chunk : most_read_chunks(opened, {prompt, made.tokens, context}, all)) {
    fmt::print("{:5.1f} %  {}: {}\n", 100 * chunk.mass, chunk.source, chunk.text);
  }
} catch (const Error& error) {
  fmt::print(stderr, "{}\n", error.what());
  return 1;
}
