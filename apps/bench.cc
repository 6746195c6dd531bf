// cepe bench: how fast a model encodes, reads and writes here, beside what the device can do (docs/bench.md).
#include <ATen/Parallel.h>

#include <cstdio>
#include <memory>

#include "apps/commands.h"
#include "apps/options.h"
#include "apps/output.h"
#include "apps/output_files.h"
#include "base/error.h"
#include "base/output_file.h"
#include "base/report.h"
#include "context/encode_context.h"
#include "model/decode_step.h"
#include "model/merged_projections.h"
#include "model/weight_type.h"
#include "ops/cuda/device.h"
#include "speed/bench.h"
#include "speed/shapes.h"

namespace cepe {
namespace {

struct BenchCommand {
  ModelOptions model;
  std::string shape, csv, json, latents = "stored", chain = "automatic";
  std::vector<std::string> tests, contexts = {"separate"}, forms = {"automatic"};
  std::vector<int64_t> batches = {1};
  BenchOptions options;
};

BenchSweep sweep_of(const BenchCommand& given, bool has_encoder) {
  std::vector<std::string> tests = given.tests;
  if (tests.empty()) {
    tests = {"pp512", "tg32"};
    if (has_encoder) tests = {"enc4096", "pp512", "pp512@c4096", "tg32", "tg32@c4096"};
  }
  BenchSweep sweep;
  for (const std::string& test : tests) sweep.tests.push_back(parse_bench_test(test));
  sweep.batches = given.batches;
  sweep.shared.clear();
  for (const std::string& contexts : given.contexts) {
    require(contexts == "shared" || contexts == "separate", "--contexts: expected shared or separate, found \"{}\"",
            contexts);
    sweep.shared.push_back(contexts == "shared");
  }
  sweep.forms.clear();
  for (const std::string& form : given.forms) sweep.forms.push_back(cross_attention_form_from_name(form, "--form"));
  return sweep;
}

std::string device_name(const at::Device& device) {
  if (device.is_cuda()) return fmt::format("{} ({})", device.str(), cuda_device_name(device));
  return fmt::format("{}, {} threads", device.str(), at::get_num_threads());
}

void require_chains(StepChain chain, const at::Device& device) {
  if (chain != StepChain::always) return;
  const std::string refusal = hopper_refusal(device);
  require(refusal.empty(), "--chain always: {}", refusal);
}

// Random weights, held as --weights says; auto has no file to follow.
Cepe random_weights(const CepeConfig& config, const BenchCommand& given) {
  const at::Device device = resolve_device(given.model);
  Cepe model = random_model(config, {.device = device, .dtype = resolve_dtype(given.model, device)});
  if (given.model.weights != "auto") {
    const QuantisedSizes quantised = quantise_weights(model, weight_type_from_name(given.model.weights, "--weights"));
    require(quantised.left == 0, "--weights {}: {} matrices of {} cannot be held so", given.model.weights,
            quantised.left, given.shape);
  }
  if (merging_pays(model)) merge_projections(model);
  return model;
}

std::string type_text(const BenchCommand& given, Cepe& model) {
  std::string text = dtype_name(model.dtype());
  if (given.model.weights == "auto") {
    if (!packed_matrices(model).empty()) text += " with the file's weights";
  } else if (given.model.weights != "stored") {
    text += fmt::format(" with {} weights", given.model.weights);
  }
  if (given.options.int8_latents) text += " with int8 latents";
  return text;
}

void run(BenchCommand& given) {
  require(given.model.model.empty() != given.shape.empty(), "a model is needed: give either --model M or --shape NAME");
  given.options.int8_latents = int8_latents_from_name(given.latents);
  check_output_files({{"--csv", given.csv}, {"--json", given.json}});
  given.options.chain = step_chain_from_name(given.chain);
  const std::vector<std::string> files{given.csv, given.json};
  for (const std::string& file : files) {
    if (!file.empty()) check_writable(file);
  }
  BenchReport report{.version = CEPE_VERSION, .options = given.options};
  std::vector<BenchCase> cases;
  const auto plan = [&](const CepeConfig& config) {
    cases = bench_cases(sweep_of(given, config.encoder.has_value()));
    for (const BenchCase& one : cases) check_bench_case(config, one, given.options);
    if (config.encoder) report.chunk_length = context_chunk_length(config);
  };

  Cepe model;
  if (given.shape.empty()) {
    for (const std::string& test : given.tests) static_cast<void>(parse_bench_test(test));  // before a model is read
    model = open_model(given.model).model;
    plan(model.config);
    report.model = given.model.model;
  } else {
    require(given.model.base.empty(), "--base belongs to --model: a shape has random weights");
    const CepeConfig config = shape_config(given.shape);
    plan(config);
    model = random_weights(config, given);
    report.model = given.shape + " (random weights)";
  }
  for (const Parameter& parameter : parameters(model)) {
    report.parameters += static_cast<uint64_t>(c10::multiply_integers(parameter.shape));
  }
  require_chains(given.options.chain, model.device());
  report.weight_bytes = static_cast<uint64_t>(weight_bytes(model));
  report.device = device_name(model.device());
  report.dtype = type_text(given, model);
  report.ceilings = measure_ceilings(model.device(), model.dtype());
  print_beside(files, bench_heading(report) + "\n");
  {
    Progress bar("measuring", static_cast<int64_t>(cases.size()));
    for (const BenchCase& one : cases) {
      report.records.push_back(run_bench(model, one, given.options));
      bar.advance();
    }
  }
  print_beside(files, bench_table(report));
  write_results({{given.csv, [&](const auto& path) { write_output(path, bench_csv(report)); }},
                 {given.json, [&](const auto& path) { write_output(path, bench_json(report)); }}});
}

std::string shape_help() {
  std::string names;
  for (const std::string& name : decoder_shape_names()) names += (names.empty() ? "" : ", ") + name;
  return "Instead of a model, random weights of a published size: " + names +
         "; with an encoder: +mlm-large, or +<encoder layers>x<cross-attention layers> such as smollm2-135m+8x15";
}

}  // namespace

void add_bench_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("bench", "Measure how fast a model encodes, reads and writes here");
  auto given = std::make_shared<BenchCommand>();
  given->model.weights = "auto";
  add_model_options(*command, given->model);
  command->get_option("--model")->required(false);
  command->add_option("--shape", given->shape, shape_help())->type_name("NAME");
  add_strings(*command, "--tests", given->tests, Strings::commas,
              "What to measure: enc<S>, pp<T>@c<S>, score<T>@c<S>, tg<N>@c<S>; without @c no context (default "
              "enc4096,pp512,pp512@c4096,tg32,tg32@c4096)");
  command->add_option("--batch", given->batches, "Sequences at once; several sizes separated by commas")
      ->delimiter(',')
      ->capture_default_str();
  add_strings(
      *command, "--contexts", given->contexts, Strings::commas,
      "Of a batch: separate, each sequence has a context of its own; shared, all read the same one; or both. enc "
      "always reads one for each sequence");
  add_strings(*command, "--form", given->forms, Strings::commas,
              "Forms of cross-attention: automatic, absorbed, materialised, cached");
  command->add_option("--latents", given->latents, "Contexts in the model's type (stored) or int8")
      ->capture_default_str();
  BenchOptions& options = given->options;
  command
      ->add_option("--window-tokens", options.window_tokens,
                   "Tokens in the decoder's window before tg writes; they are read before the clock runs")
      ->capture_default_str();
  command->add_option("--repetitions", options.repetitions, "Timed repetitions; their median is shown")
      ->capture_default_str();
  command->add_option("--warmup", options.warmup, "Repetitions before those")->capture_default_str();
  command
      ->add_option(
          "--chain", given->chain,
          "Of tg on a CUDA device: products that follow each other as one kernel, those of 5 to 16 sequences as "
          "skinny GEMMs: automatic, always or never")
      ->capture_default_str();
  command->add_flag(
      "--exclusive-gpu", options.exclusive_device,
      "No other process uses the GPU: --chain automatic may take chains; known without it where its compute "
      "mode is exclusive");
  command->add_flag("!--no-graph", options.graph,
                    "Of tg on a CUDA device: start every kernel by itself, without a graph");
  command->add_option("--csv", given->csv, "Write a line a test to this file; -: to standard output")
      ->type_name("FILE");
  add_json_option(*command, given->json, "Write everything, each repetition's time too,");
  command->callback([given] { run(*given); });
}

}  // namespace cepe
