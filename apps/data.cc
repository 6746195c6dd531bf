// cepe data: text files into token shards for training (docs/training.md, docs/formats/tokens.md); cepe data ask:
// samples that ask about what the encoder reads (docs/ask.md).
#include <cstdio>
#include <map>
#include <memory>
#include <optional>

#include "apps/commands.h"
#include "apps/options.h"
#include "apps/output.h"
#include "apps/output_files.h"
#include "ask/answer_prompts.h"
#include "ask/sources/question_files.h"
#include "ask/write_samples.h"
#include "base/config.h"
#include "base/error.h"
#include "base/output_file.h"
#include "base/report.h"
#include "data/tokenize.h"

namespace cepe {
namespace {

struct DataCommand {
  std::string model, base, out;
  std::vector<std::string> files;
  TokenizeOptions options;
};

// A tokenizer, and the chat template of the model that it belongs to.
struct OpenedTokenizer {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::optional<AskChat> chat;
};

// A tokenizer file by itself, or the tokenizer of a model.
OpenedTokenizer open_tokenizer(const std::string& model, const std::string& base) {
  const std::filesystem::path path(model);
  const bool tokenizer_file = path.extension() == ".json" || path.extension() == ".model";
  require(!tokenizer_file || base.empty(), "--base {}: {} is a tokenizer and has no base", base, model);
  if (path.extension() == ".json") return {load_tokenizer_json(path), {}};
  if (path.extension() == ".model") return {load_sentencepiece(path), {}};
  // All of a model is checked, and none of its weights kept: tensors of the device meta have a shape alone.
  const OpenedModel opened = open_model(model, base, {.device = at::kMeta});
  require(opened.tokenizer != nullptr, "{}: the model has no tokenizer", model);
  OpenedTokenizer found{opened.tokenizer, {}};
  if (!opened.chat_template.empty()) {
    found.chat = AskChat{ChatTemplate(opened.chat_template, opened.chat_template_file), opened.special_tokens};
  }
  return found;
}

void run_data(const DataCommand& command) {
  std::map<std::filesystem::path, std::string> shards;  // names are checked before the work starts
  for (const std::string& file : command.files) {
    const auto [entry, fresh] = shards.try_emplace(shard_path(file, command.options), file);
    require(fresh, "{} and {} would both become {}", entry->second, file, entry->first.string());
    require(std::filesystem::exists(file), "{}: no such file", file);
  }
  const std::shared_ptr<const Tokenizer> tokenizer = open_tokenizer(command.model, command.base).tokenizer;
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

struct AskCommand {
  std::string config, model, base, out;
  int64_t threads = 0;
};

void add_rows(const std::string& split, const std::map<std::string, AskKindCounts>& kinds, Table& table) {
  const auto row = [&](const std::string& name, const AskKindCounts& counts) {
    const auto number = [](int64_t value) { return format_count(static_cast<uint64_t>(value)); };
    const double chunks = static_cast<double>(counts.chunks) / static_cast<double>(counts.samples);
    table.add_row({split, name, number(counts.samples), fmt::format("{:.1f}", chunks), number(counts.context_tokens),
                   number(counts.decoder_tokens), number(counts.scored_tokens)});
  };
  AskKindCounts all;
  for (const auto& [name, counts] : kinds) {
    row(name, counts);
    all.samples += counts.samples;
    all.chunks += counts.chunks;
    all.context_tokens += counts.context_tokens;
    all.decoder_tokens += counts.decoder_tokens;
    all.scored_tokens += counts.scored_tokens;
  }
  if (all.samples > 0) row("all", all);
}

void print_summary(const AskWritten& written, const AskSourceCounts& counts, double seconds) {
  const auto number = [](int64_t value) { return format_count(static_cast<uint64_t>(value)); };
  Table table({"split", "kind", "samples", "chunks a sample", "context tokens", "decoder tokens", "scored"});
  add_rows("training", written.training, table);
  add_rows("validation", written.validation, table);
  print_beside({}, table.str());
  print(fmt::format("\nread: {} texts ({}), {} questions, {} passages\n", number(counts.texts),
                    format_bytes(static_cast<uint64_t>(counts.text_bytes)), number(counts.questions),
                    number(counts.passages)));
  print(fmt::format("left out for overlap with {} runs of eight words: {} passages, {} questions, {} excerpts\n",
                    number(counts.shingles), number(counts.refused_passages), number(counts.refused_questions),
                    number(counts.refused_excerpts)));
  for (const auto& file : written.files) print("wrote " + printable(file.string()) + "\n");
  print(fmt::format("{:.1f} seconds\n", seconds));
}

void run_ask(const AskCommand& command, const std::vector<std::string>& overrides) {
  Config config = Config::from_file(command.config);
  config.use_environment();
  for (const std::string& argument : overrides) {
    require(argument.rfind("--", 0) == 0, "{}: expected --section.key=value", argument);
    config.override_with(argument.substr(2));
  }
  const double start = seconds_now();
  const AskConfig ask = read_ask_config(config, std::filesystem::path(command.config).parent_path());
  const OpenedTokenizer opened = open_tokenizer(command.model, command.base);
  const AskMaker maker(ask, *opened.tokenizer, opened.chat ? &*opened.chat : nullptr);
  for (const std::string& left_out : ask.notes) note(left_out);
  AskWriteOptions options{.out = command.out, .threads = command.threads};
  options.progress = progress_bar("samples");
  const ShardVocabulary vocabulary{opened.tokenizer->vocabulary_size(), tokenizer_fingerprint(*opened.tokenizer)};
  const AskWritten written = write_samples(maker, ask, vocabulary, options);
  print_summary(written, maker.counts(), seconds_now() - start);
}

void add_model_and_out(CLI::App& command, std::string& model, std::string& base, std::string& out) {
  command
      .add_option("--model", model,
                  "Whose tokenizer: a model (a name without a directory is looked for in $CEPE_MODELS, too, and where "
                  "setup.sh puts "
                  "models), a tokenizer.json or a tokenizer.model")
      ->type_name("MODEL")
      ->required();
  add_base_option(command, base);
  command.add_option("--out", out, "Directory of the shards")->type_name("DIRECTORY")->required();
}

struct PromptsCommand {
  std::vector<std::string> files;
  std::string out;
  AnswerPromptsOptions options;
};

void run_prompts(const PromptsCommand& command) {
  check_writable(command.out);
  std::vector<std::string> inputs;
  for (const std::string& file : command.files) inputs.push_back(parse_question_entry(file).path);
  check_output_files({{"--out", command.out}}, inputs);
  const AnswerPromptsCounts counts = write_answer_prompts(command.files, command.out, command.options);
  std::string said = fmt::format("wrote {} prompts to {}", counts.prompts, command.out);
  if (counts.without_passage > 0)
    said += fmt::format("; left out {} questions that no passage is known to answer", counts.without_passage);
  print_beside({command.out}, said + "\n");
}

CLI::App* add_prompts_command(CLI::App& data) {
  auto command = std::make_shared<PromptsCommand>();
  CLI::App* sub = data.add_subcommand(
      "prompts", "Make prompts of questions with their passages, whose answers `cepe data ask` makes samples of");
  add_strings(*sub, "files", command->files, Strings::several,
              "Files of questions, as sources.questions of `cepe data ask` names them: PATH or PATH;lines=odd")
      ->required();
  sub->add_option("--out", command->out, "The file to write, for `cepe generate --prompts`")
      ->type_name("FILE.jsonl")
      ->required();
  sub->add_option("--instruction", command->options.instruction, "What stands before the passages in each prompt")
      ->type_name("TEXT");
  sub->callback([command] { run_prompts(*command); });
  return sub;
}

CLI::App* add_ask_command(CLI::App& data) {
  auto command = std::make_shared<AskCommand>();
  CLI::App* sub =
      data.add_subcommand("ask", "Make samples that ask about what the encoder reads, from texts and questions");
  sub->add_option("config", command->config, "A TOML file, see configs/ask/")->type_name("FILE")->required();
  add_model_and_out(*sub, command->model, command->base, command->out);
  sub->add_option("--threads", command->threads, "Threads; 0: one a processor")->capture_default_str();
  sub->allow_extras();
  sub->footer(
      "Any key of the TOML file can be given as --section.key=value, or as CEPE_SECTION_KEY in\nthe environment.");
  sub->callback([command, sub] { run_ask(*command, sub->remaining()); });
  return sub;
}

}  // namespace

void add_data_command(CLI::App& app) {
  auto command = std::make_shared<DataCommand>();
  CLI::App* sub = app.add_subcommand("data", "Tokenise text files into token shards for training");
  add_model_and_out(*sub, command->model, command->base, command->out);
  sub->add_option("--domain", command->options.default_domain, "Domain of documents that name none")
      ->capture_default_str();
  sub->add_flag("--append-eos", command->options.append_eos, "End each document with the end-of-text token");
  sub->add_option("--threads", command->options.threads, "Threads; 0: one a processor")->capture_default_str();
  add_strings(*sub, "files", command->files, Strings::several,
              "Texts: .jsonl (fields text, domain) or .txt, plain, .zst or .gz (required)");
  CLI::App *ask = add_ask_command(*sub), *prompts = add_prompts_command(*sub);
  // What the command itself needs, these do not. (CLI11 would take "ask" for a file, were files required.)
  for (CLI::App* own : {ask, prompts}) {
    own->preparse_callback([sub](size_t) {
      for (CLI::Option* option : sub->get_options()) option->required(false);
    });
  }
  sub->callback([command, ask, prompts] {
    if (ask->parsed() || prompts->parsed()) return;
    if (command->files.empty()) throw CLI::RequiredError("files");
    command->options.out = command->out;
    run_data(*command);
  });
}

}  // namespace cepe
