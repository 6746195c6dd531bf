// A program of somebody who uses cepe's libraries: writes what a recorded reference wrote (tests/golden/generate).
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "generate/generator.h"
#include "model/checkpoint/checkpoint.h"

int main(int argc, char** argv) try {
  cepe::require(argc == 3, "usage: consumer MODEL RECORDS");
  const cepe::OpenedModel opened = cepe::open_model(cepe::find_model(argv[1]));
  const auto record = nlohmann::json::parse(cepe::read_file(argv[2])).at(0);
  const std::vector<cepe::TokenId> prompt = record.at("prompt_tokens"), expected = record.at("tokens");
  const cepe::Generation made =
      cepe::generate({opened.model, *opened.tokenizer, prompt}, {.max_tokens = static_cast<int64_t>(expected.size())});
  fmt::print("{} tokens, {}\n", made.tokens.size(), made.tokens == expected ? "as recorded" : "others than recorded");
} catch (const cepe::Error& error) {
  fmt::print(stderr, "{}\n", error.what());
  return 1;
}
