// Lesson 2: writing with a context.
//
// An engine decodes many sequences at once, each token of all of them in one step. Requests that hold the same context
// object share its memory, and where it can be one pass over its latents. This lesson asks two things of one book.
#include <fmt/format.h>

#include "base/error.h"
#include "context/encode_context.h"
#include "context/read_context.h"
#include "generate/engine.h"
#include "generate/prompt.h"
#include "model/checkpoint/checkpoint.h"

using namespace cepe;

int main(int argc, char** argv) try {
  require(argc >= 4, "usage: 2-generate MODEL TEXT PROMPT...");
  const OpenedModel opened = open_model(find_model(argv[1]));
  std::vector<TextChunk> chunks = read_context(opened, {argv[2]});
  chunks.resize(std::min<size_t>(chunks.size(), 8));
  const auto context = std::make_shared<const Context>(encode_context(opened.model, chunks));

  // continuation(): a text to go on with. prompt() puts a question into the model's chat template instead.
  const PromptBuilder prompts(opened);
  Engine engine(opened.model, *opened.tokenizer, {.sequences = 4, .capacity = 512});
  for (int i = 3; i < argc; ++i) {
    Request request;
    request.prompt = prompts.continuation(argv[i]);
    request.continues_prompt = true;
    request.context = context;
    request.max_tokens = 24;
    request.sampling.temperature = 0;  // greedy: the best token each time
    request.end_tokens = end_tokens(opened);
    request.on_end = [prompt = argv[i]](const Generation& made) {
      fmt::print("{}|{}\n  ({}, {:.1f} tokens/s)\n", prompt, made.text, stop_reason_name(made.reason),
                 made.tokens_per_second);
    };
    engine.submit(std::move(request));
  }
  while (engine.step()) {
  }
} catch (const Error& error) {
  fmt::print(stderr, "{}\n", error.what());
  return 1;
}
