// Writing with a context, its keys and values kept or not: the time to the first token and tokens a second, in turns in
// one run, from one encoding.
//
//   build/bench/context_forms_bench MODEL CONTEXT.txt float32|bfloat16 stored|int8|int4
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/report.h"
#include "context/encode_context.h"
#include "context/read_context.h"
#include "generate/generator.h"
#include "generate/prompt.h"
#include "model/weight_type.h"

namespace {

using cepe::CrossAttentionForm;

// A prompt, then some tokens one by one; none where only the first is asked for.
struct Way {
  const char* name;
  const cepe::Latents* context;
  cepe::ContextReading reading;
  int tokens;
  std::vector<double> first = {}, token = {};  // seconds
};

void write(const cepe::Cepe& model, const std::vector<cepe::TokenId>& prompt, Way& way) {
  cepe::DecodingSession session(model, way.context, static_cast<int64_t>(prompt.size()) + 64, way.reading);
  double start = cepe::seconds_now();
  session.append(prompt);
  way.first.push_back(cepe::seconds_now() - start);
  start = cepe::seconds_now();
  for (int i = 0; i < way.tokens; ++i) session.append({&prompt[static_cast<size_t>(i) % prompt.size()], 1});
  if (way.tokens > 0) way.token.push_back((cepe::seconds_now() - start) / way.tokens);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void measure(int argc, char** argv) {
  if (argc != 5) throw std::runtime_error("give MODEL CONTEXT.txt float32|bfloat16 stored|int8|int4");
  cepe::OpenOptions open;
  open.dtype = std::string(argv[3]) == "float32" ? at::kFloat : at::kBFloat16;
  cepe::OpenedModel opened = cepe::open_model(argv[1], open);
  cepe::quantise_weights(opened.model, cepe::weight_type_from_name(argv[4], "weights"));
  const cepe::Latents latents = cepe::encode_context(opened.model, cepe::read_context(opened, {argv[2]})).latents;
  const std::vector<cepe::TokenId> question = cepe::build_prompt(opened, {.text = "Who is Little John?"}).tokens;
  std::vector<Way> ways = {{"no context", nullptr, {}, 12},
                           {"absorbed", &latents, {.form = CrossAttentionForm::absorbed}, 12},
                           {"no room for keys and values", &latents, {.memory_budget = 0}, 0},
                           {"cached", &latents, {.form = CrossAttentionForm::cached}, 12}};
  for (int round = 0; round < 4; ++round) {
    for (Way& way : ways) {
      write(opened.model, question, way);
      if (round == 0) way.first.clear(), way.token.clear();  // warms up
    }
  }
  std::printf("%s, weights %s: %ld context tokens, %zu prompt tokens, %d threads\n", argv[3], argv[4],
              static_cast<long>(latents.tokens()), question.size(), at::get_num_threads());
  for (const Way& way : ways) {
    std::printf("  %-28s %7.2f s to the first token", way.name, median(way.first));
    if (way.tokens > 0) std::printf(", %8.1f ms a token", median(way.token) * 1e3);
    std::printf("\n");
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    measure(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "context_forms_bench: %s\n", error.what());
    return 1;
  }
}
