// cepe export: a model in the layout of the published CEPE checkpoints (docs/models.md).
#include "apps/export.h"

#include <cstdio>
#include <map>
#include <memory>

#include "apps/commands.h"
#include "apps/output.h"
#include "base/error.h"
#include "base/file.h"
#include "base/report.h"
#include "io/gguf.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;

// A tokenizer as files beside a model, made before anything is written.
struct TokenizerFiles {
  std::map<std::string, std::string> contents;  // by file name
  std::string said;                             // what became of it, for the user
};

TokenizerFiles tokenizer_files_of_directory(const fs::path& source) {
  TokenizerFiles files;
  for (const char* name :
       {"tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
        "generation_config.json", "chat_template.jinja", "chat_template.json"}) {
    if (fs::is_regular_file(source / name)) files.contents[name] = read_file(source / name);
  }
  files.said = files.contents.empty() ? "without a tokenizer: " + source.string() + " has no tokenizer files to copy"
                                      : "with its tokenizer";
  return files;
}

// The vocabulary of a GGUF file as Hugging Face's tokenizer files.
TokenizerFiles tokenizer_files_of_gguf(const OpenedModel& opened, const fs::path& source) {
  const GgufVocabulary vocabulary = gguf_vocabulary(GgufFile(source));
  if (vocabulary.model != "gpt2") {
    return {{}, "without a tokenizer: the SentencePiece vocabulary of " + source.string() + " has no tokenizer.json"};
  }
  const StackConfig& decoder = opened.model.config.decoder;
  HfTokenizerSettings settings{.chat_template = opened.chat_template, .model_max_length = decoder_window(decoder)};
  if (decoder.pad_token) settings.pad = token_id_from(*decoder.pad_token, source.string() + ": the padding token");
  const HfTokenizerFiles files = hf_tokenizer_files(vocabulary, settings);
  return {{{"tokenizer.json", files.tokenizer_json}, {"tokenizer_config.json", files.tokenizer_config_json}},
          "with its tokenizer"};
}

TokenizerFiles tokenizer_files(const OpenedModel& opened) {
  const fs::path source = opened.base_path.value_or(opened.path);
  return fs::is_directory(source) ? tokenizer_files_of_directory(source) : tokenizer_files_of_gguf(opened, source);
}

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
  for (const auto& [name, content] : tokenizer.contents) write_file(out / name, content);
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
