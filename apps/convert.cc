// cepe convert: the same model with its weights in another form (docs/models.md).
#include <cstdio>
#include <memory>

#include "apps/commands.h"
#include "apps/export.h"
#include "apps/output.h"
#include "base/error.h"
#include "base/report.h"
#include "io/hf_directory.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;

struct ConvertCommand {
  std::string model, base, out, weights;
};

void convert_trained_parts(const ConvertCommand& given, SaveOptions::Weights weights) {
  OpenOptions open;
  open.dtype = at::kBFloat16;  // of the base, which is not written
  open.keep_float32 = true;    // no note of digits that are lost for nothing
  open.trained_dtype = at::kFloat;
  OpenedModel opened = open_model(given.model, given.base, open);
  const nlohmann::json config = read_json(opened.path / "config.json");
  SaveOptions save;
  save.weights = weights;
  save.base_name = config.at("base_model_name_or_path").get<std::string>();
  save.base_sha256 = opened.base_sha256;
  if (config.contains("training")) save.training = config["training"];
  save_trained_parts(opened.model, given.out, save);
  print_beside({}, fmt::format("wrote {} ({}), trained parts in {}\n", given.out,
                               format_bytes(fs::file_size(fs::path(given.out) / "model.safetensors")), given.weights));
}

void run(const ConvertCommand& given) {
  const SaveOptions::Weights weights = saved_weights_from_name(given.weights, "--weights");
  const fs::path model = find_model(given.model);
  require_separate_output(model, given.out);
  if (is_trained_parts(model)) return convert_trained_parts(given, weights);
  require(weights != SaveOptions::Weights::int8,
          "--weights int8: {} is not a directory of trained parts, and only these can be int8", given.model);
  OpenedModel opened = open_model(given.model, given.base, {});
  require(opened.model.encoder.has_value(),
          "{}: a plain decoder ({}) has no CEPE parts to convert: cepe export writes one out", given.model,
          opened.kind);
  write_published(opened, given.out, weights);
}

}  // namespace

void add_convert_command(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("convert", "Write trained parts, or a published CEPE model, with another type of weights");
  auto given = std::make_shared<ConvertCommand>();
  command->add_option("--model", given->model, "A directory of trained parts, or a published CEPE directory")
      ->type_name("MODEL")
      ->required();
  add_base_option(*command, given->base);
  command->add_option("--out", given->out, "The directory to write")->type_name("DIRECTORY")->required();
  command
      ->add_option("--weights", given->weights,
                   "Type of weights: f32, bf16, or int8 with one scale an output channel (trained parts only)")
      ->required();
  command->callback([given] { run(*given); });
}

}  // namespace cepe
