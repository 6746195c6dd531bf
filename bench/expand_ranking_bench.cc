// How often the chunks that --expand reads again by words hold the answer: the search alone, without an encoder.
//
//   cepe eval recall ... --placement encoder --inputs-only --out inputs
//   build/bench/expand_ranking_bench MODEL inputs/inputs.jsonl [CHUNK_TOKENS]
//
// A line for each task: the share of examples all of whose references stand in the text of the first 1, 2 and 4 chunks,
// and the mean tokens of that text.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"
#include "context/encode_context.h"
#include "generate/expand.h"
#include "model/checkpoint/checkpoint.h"
#include "text/chunker.h"
#include "text/text_file.h"

namespace {

constexpr std::array<int64_t, 3> kCounts = {1, 2, 4};

struct Found {
  int64_t examples = 0, held[kCounts.size()] = {}, tokens[kCounts.size()] = {};
};

std::shared_ptr<const cepe::Context> chunks_of(const nlohmann::json& documents, const cepe::OpenedModel& opened,
                                               int64_t chunk_tokens) {
  std::vector<cepe::TextChunk> chunks;
  for (const nlohmann::json& document : documents) {
    const auto tokens =
        opened.tokenizer->encode(document.at("text").get<std::string>(), {.parse_special_tokens = false});
    cepe::append_chunks(tokens, document.at("name").get<std::string>(), chunk_tokens, chunks);
  }
  auto context = std::make_shared<cepe::Context>();
  for (cepe::TextChunk& chunk : chunks) {
    const auto length = static_cast<int64_t>(chunk.tokens.size());
    context->chunks.push_back({0, length, chunk.source, std::move(chunk.tokens)});
  }
  return context;
}

bool holds_all(const std::string& text, const nlohmann::json& references) {
  return std::all_of(references.begin(), references.end(), [&](const nlohmann::json& reference) {
    return text.find(reference.get<std::string>()) != std::string::npos;
  });
}

void run(int argc, char** argv) {
  cepe::require(argc == 3 || argc == 4, "expected MODEL INPUTS [CHUNK_TOKENS], found {} arguments", argc - 1);
  const cepe::OpenedModel opened = cepe::open_model(argv[1]);
  const int64_t chunk_tokens = argc > 3 ? std::atoll(argv[3]) : cepe::context_chunk_length(opened.model.config);
  cepe::require(chunk_tokens > 0, "CHUNK_TOKENS: expected 1 or more, found {}", argc > 3 ? argv[3] : "0");
  std::map<std::string, Found> tasks;
  cepe::TextFile lines(argv[2], cepe::TextNames::json);
  for (std::string line; lines.next_line(line);) {
    const nlohmann::json record = nlohmann::json::parse(line);
    const auto context = chunks_of(record.at("documents"), opened, chunk_tokens);
    Found& found = tasks[record.at("tags").at("task").get<std::string>()];
    ++found.examples;
    for (size_t i = 0; i < kCounts.size(); ++i) {
      cepe::Expander expander(opened, {.chunks = kCounts[i]});
      std::vector<int64_t> best = expander.best_chunks(context, record.at("question").get<std::string>(), {});
      std::sort(best.begin(), best.end());
      const std::string text = cepe::text_of_chunks(*opened.tokenizer, *context, best);
      found.held[i] += holds_all(text, record.at("references"));
      found.tokens[i] += std::ssize(opened.tokenizer->encode(text, {.parse_special_tokens = false}));
    }
  }
  std::printf("%-18s %8s %18s %18s %18s\n", "task", "examples", "first (tokens)", "first 2", "first 4");
  for (const auto& [name, found] : tasks) {
    std::printf("%-18s %8lld", name.c_str(), static_cast<long long>(found.examples));
    for (size_t i = 0; i < kCounts.size(); ++i) {
      const auto n = static_cast<double>(found.examples);
      std::printf("   %6.1f %% (%5.0f)", 100 * static_cast<double>(found.held[i]) / n,
                  static_cast<double>(found.tokens[i]) / n);
    }
    std::printf("\n");
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "expand_ranking_bench: %s\n", error.what());
    return 1;
  }
}
