// cepe export: a model in the layout of the published CEPE checkpoints (docs/models.md).
#include "apps/export.h"

#include <cstdio>
#include <memory>

#include "apps/commands.h"
#include "apps/output.h"
#include "base/error.h"
#include "base/report.h"
#include "model/checkpoint/tokenizer_files.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;

struct ExportCommand {
  std::string model, base, out, format = "published", weights = "f32";
};

void run(const ExportCommand& given) {
  require(given.format == "published", "--format: expected published, found \"{}\"", given.format);
  const SaveOptions::Weights weights = saved_weights_from_name(given.weights, "--weights");
  require(weights != SaveOptions::Weights::int8,
          "--weights int8: the published layout has no int8 weights: choose f32 or bf16");
  require_separate_output(find_model(given.model), given.out);
  OpenedModel opened = open_model(given.model, given.base, {});
  write_published(opened, given.out, weights);
}

}  // namespace

void require_separate_output(const fs::path& model, const fs::path& out) {
  std::error_code ignored;  // paths that do not exist are not the same
  require(!fs::equivalent(model, out, ignored), "--out {}: this is the model itself: name another directory",
          out.string());
  require(!fs::exists(out, ignored) || fs::is_directory(out, ignored), "--out {}: this is a file: name a directory",
          out.string());
}

void write_published(OpenedModel& opened, const fs::path& out, SaveOptions::Weights weights) {
  const TokenizerFiles tokenizer = tokenizer_files(opened);
  export_published(opened.model, out, weights);
  tokenizer.write(out);
  print_beside({}, fmt::format("wrote {} ({}) in the published layout, {}\n", out.string(),
                               format_bytes(fs::file_size(out / "model.safetensors")), tokenizer.said));
}

void add_export_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("export", "Write a model in the layout of the published CEPE checkpoints");
  auto given = std::make_shared<ExportCommand>();
  command
      ->add_option("--model", given->model,
                   "A directory of trained parts, a published CEPE directory, or a plain decoder")
      ->type_name("MODEL")
      ->required();
  add_base_option(*command, given->base);
  command->add_option("--out", given->out, "The directory to write")->type_name("DIRECTORY")->required();
  command->add_option("--format", given->format, "The layout: published")->capture_default_str();
  command->add_option("--weights", given->weights, "Type of weights: f32 or bf16")->capture_default_str();
  command->callback([given] { run(*given); });
}

}  // namespace cepe
