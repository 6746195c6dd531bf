// cepe data: text files into token shards for training (docs/training.md, docs/formats/tokens.md).
#include <cstdio>
#include <map>
#include <memory>

#include "apps/commands.h"
#include "apps/options.h"
#include "apps/output.h"
#include "base/error.h"
#include "base/report.h"
#include "data/tokenize.h"

namespace cepe {
namespace {

struct DataCommand {
  std::string model, base, out;
  std::vector<std::string> files;
  TokenizeOptions options;
};

// A tokenizer file by itself, or the tokenizer of a model.
std::shared_ptr<const Tokenizer> open_tokenizer(const DataCommand& command) {
  const std::filesystem::path path(command.model);
  const bool tokenizer_file = path.extension() == ".json" || path.extension() == ".model";
  require(!tokenizer_file || command.base.empty(), "--base {}: {} is a tokenizer and has no base", command.base,
          command.model);
  if (path.extension() == ".json") return load_tokenizer_json(path);
  if (path.extension() == ".model") return load_sentencepiece(path);
  ModelOptions options;
  options.model = command.model;
  options.base = command.base;
  options.device = "cpu";
  OpenedModel opened = open_model(options);
  require(opened.tokenizer != nullptr, "{}: the model has no tokenizer", command.model);
  return opened.tokenizer;
}

void run_data(const DataCommand& command) {
  std::map<std::filesystem::path, std::string> shards;  // names are checked before the work starts
  for (const std::string& file : command.files) {
    const auto [entry, fresh] = shards.try_emplace(shard_path(file, command.options), file);
    require(fresh, "{} and {} would both become {}", entry->second, file, entry->first.string());
    require(std::filesystem::exists(file), "{}: no such file", file);
  }
  const std::shared_ptr<const Tokenizer> tokenizer = open_tokenizer(command);
  Table table({"shard", "documents", "tokens", "text", "empty", "seconds"});
  int64_t documents = 0, tokens = 0, bytes = 0, empty = 0;
  const double start = seconds_now();
  {
    Progress progress("tokenising", static_cast<int64_t>(command.files.size()));
    for (const std::string& file : command.files) {
      const double begin = seconds_now();
      const TokenizeSummary summary = tokenize_file(*tokenizer, file, command.options);
      table.add_row({summary.shard.string(), format_count(static_cast<uint64_t>(summary.documents)),
                     format_count(static_cast<uint64_t>(summary.tokens)),
                     format_bytes(static_cast<uint64_t>(summary.text_bytes)),
                     format_count(static_cast<uint64_t>(summary.empty)), fmt::format("{:.1f}", seconds_now() - begin)});
      documents += summary.documents;
      tokens += summary.tokens;
      bytes += summary.text_bytes;
      empty += summary.empty;
      progress.advance();
    }
  }
  table.add_row({"all", format_count(static_cast<uint64_t>(documents)), format_count(static_cast<uint64_t>(tokens)),
                 format_bytes(static_cast<uint64_t>(bytes)), format_count(static_cast<uint64_t>(empty)),
                 fmt::format("{:.1f}", seconds_now() - start)});
  print_beside({}, table.str());
}

}  // namespace

void add_data_command(CLI::App& app) {
  auto command = std::make_shared<DataCommand>();
  CLI::App* sub = app.add_subcommand("data", "Tokenise text files into token shards for training");
  sub->add_option("--model", command->model,
                  "Whose tokenizer: a model (a name without a directory is looked for in $CEPE_MODELS, too, and where "
                  "setup.sh puts "
                  "models), a tokenizer.json or a tokenizer.model")
      ->type_name("MODEL")
      ->required();
  add_base_option(*sub, command->base);
  sub->add_option("--out", command->out, "Directory of the shards")->type_name("DIRECTORY")->required();
  sub->add_option("--domain", command->options.default_domain, "Domain of documents that name none")
      ->capture_default_str();
  sub->add_flag("--append-eos", command->options.append_eos, "End each document with the end-of-text token");
  sub->add_option("--threads", command->options.threads, "Threads; 0: one a processor")->capture_default_str();
  add_strings(*sub, "files", command->files, Strings::several,
              "Texts: .jsonl (fields text, domain) or .txt, plain or .zst")
      ->required();
  sub->callback([command] {
    command->options.out = command->out;
    run_data(*command);
  });
}

}  // namespace cepe
