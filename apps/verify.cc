#include <cmath>
#include <cstdio>
#include <memory>

#include "apps/commands.h"
#include "apps/options.h"
#include "apps/output.h"
#include "base/error.h"
#include "base/report.h"
#include "verify/verify.h"

namespace cepe {
namespace {

struct Options {
  std::vector<std::string> directories;
  VerifyOptions verify;
  std::string form = "automatic";
};

// Prints one directory's table; true when it passed.
bool verify_one(const std::string& directory, const VerifyOptions& options) {
  const VerifyReport report = verify_fixture(directory, options);
  Table table({"quantity", "max absolute error", "max relative error", "error / norm", ""});
  for (const VerifyResult& result : report.results) {
    table.add_row({result.quantity, fmt::format("{:.2e}", result.max_absolute),
                   fmt::format("{:.2e}", result.max_relative), fmt::format("{:.2e}", result.norm_error),
                   result.passed ? "ok" : "FAILED"});
  }
  std::string shown = directory + "\n" + table.str();
  for (const std::string& name : report.unknown)
    shown += fmt::format("FAILED: recorded quantity {} is unknown to verify\n", printable(name));
  const auto failed = std::count_if(report.results.begin(), report.results.end(),
                                    [](const VerifyResult& result) { return !result.passed; });
  shown += fmt::format("{} quantities, {} beyond {:.0e} of the norm, {} unknown: {}\n\n", report.results.size(), failed,
                       options.tolerance, report.unknown.size(), report.passed() ? "passed" : "FAILED");
  print_beside({}, shown);
  return report.passed();
}

}  // namespace

void add_verify_command(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("verify", "Recompute what fixture directories recorded and compare");
  add_strings(*command, "directory", options->directories, Strings::several,
              "Directories with config.json, model.safetensors and expected.safetensors")
      ->type_name("DIRECTORY...")
      ->required();
  command->add_option("--tolerance", options->verify.tolerance, "Largest |found - expected| / |expected| that passes")
      ->capture_default_str();
  command->add_option("--device", options->verify.device, "Where to compute: cpu or cuda")->capture_default_str();
  command->add_flag("--float64", options->verify.float64, "Compute in float64");
  command->add_option("--form", options->form, "Form of cross-attention: automatic, materialised, absorbed or cached")
      ->capture_default_str();
  command
      ->add_option("--block-tokens", options->verify.block_tokens,
                   "Context tokens of a block of the materialised form; 0: as memory allows")
      ->capture_default_str();
  command->callback([options] {
    require(options->verify.block_tokens >= 0, "--block-tokens: expected 0 or more, found {}",
            options->verify.block_tokens);
    require(std::isfinite(options->verify.tolerance) && options->verify.tolerance >= 0,
            "--tolerance: expected a number that is 0 or more, found {}", options->verify.tolerance);
    options->verify.device = resolve_device({.device = options->verify.device}).str();
    options->verify.form = cross_attention_form_from_name(options->form, "--form");
    bool passed = true;
    for (const std::string& directory : options->directories) passed = verify_one(directory, options->verify) && passed;
    require(passed, "verify: a recorded quantity was not reproduced");
  });
}

}  // namespace cepe
