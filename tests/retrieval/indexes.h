// Small indexes to test with.
#pragma once

#include <fmt/format.h>

#include <string>
#include <vector>

#include "base/temporary_directory.h"
#include "retrieval/build_index.h"
#include "retrieval/index_reader.h"

namespace cepe {

inline std::string tiny_encoder() { return CEPE_TEST_DATA "/bert/tiny"; }

inline IndexDescription described_encoder(const BertEncoder& encoder) {
  return {.encoder = tiny_encoder(), .encoder_sha256 = encoder_sha256_of(tiny_encoder()), .width = encoder.width()};
}

inline IndexedPassage passage_of(const std::string& id, const std::string& text, const std::string& title = "") {
  return {id, title, text, "passages.jsonl:1"};
}

// Texts of words that are drawn unevenly, so that some are common and some rare.
inline std::vector<std::string> drawn_texts(int count, unsigned seed) {
  std::vector<std::string> texts;
  unsigned state = seed;
  const auto draw = [&](unsigned bound) { return (state = state * 1664525u + 1013904223u) / 65536u % bound; };
  for (int t = 0; t < count; ++t) {
    std::string text;
    const unsigned words = 5 + draw(60);
    for (unsigned w = 0; w < words; ++w) text += fmt::format("w{}{}", draw(1 + draw(200)), w % 9 == 8 ? ". " : " ");
    texts.push_back(text);
  }
  return texts;
}

inline void fill(const std::filesystem::path& index, const std::vector<std::string>& texts,
                 const IndexDescription& description = {}, const BertEncoder* encoder = nullptr) {
  build_index(index, description, encoder, [&](IndexWriter& writer) {
    for (size_t i = 0; i < texts.size(); ++i) writer.add(passage_of(fmt::format("p{}", i), texts[i]));
  });
}

}  // namespace cepe
