// Which chunks of the context a text was written from: the attention mass of each
// (ops/attention_mass/attention_mass.h).
#pragma once

#include <span>
#include <string>
#include <vector>

#include "context/context.h"
#include "model/checkpoint/checkpoint.h"

namespace cepe {

struct ChunkMass {
  int64_t chunk = 0;        // of the context, from 0
  std::string source;       // its document's name
  int64_t first_token = 0;  // of the chunk, in the document
  int64_t tokens = 0;
  double mass = 0;   // the share of cross-attention that it got; 1 over all chunks
  std::string text;  // its first words
};

// What is read with a context.
struct ReadText {
  std::span<const TokenId> tokens;
  const Context& context;
  int64_t last = 0;  // only the last so many tokens count; 0: all
};
// The share of cross-attention that each chunk gets while the decoder reads the text: a mean over tokens, heads and
// layers, 1 over all chunks. Costs a pass of the decoder over the text, and a read of the latents for each layer and 32
// rows (tokens x heads). The context has tokens.
std::vector<double> chunk_masses(const Cepe& model, const ReadText& text);

// What was written, and from what.
struct WrittenText {
  const std::vector<TokenId>& prompt;
  const std::vector<TokenId>& tokens;
  const Context& context;
};
// The chunks with the greatest mass, at most `count` of them, the greatest first: a mean over the rows that chose the
// written tokens (the prompt's last and every written token's but the last), as chunk_masses() counts it after the text
// is written. Empty where there is no context.
std::vector<ChunkMass> most_read_chunks(const OpenedModel& opened, const WrittenText& written, int64_t count);

}  // namespace cepe
