// cepe index: passages on disk, found by words and by vectors (docs/retrieval.md).
#include <memory>

#include "apps/commands.h"
#include "apps/index_commands.h"
#include "apps/options.h"
#include "apps/output.h"
#include "base/error.h"
#include "base/report.h"
#include "retrieval/build_index.h"
#include "tasks/questions/question_files.h"
#include "text/text_file.h"

namespace cepe {
namespace {

struct Passages {
  std::vector<std::string> files, questions;
  int64_t words = 100;
  bool cut_records = false;
};

struct FillCommand {
  IndexOptions index;
  Passages passages;
  std::string words = "unicode61";
  bool graph = false;
};

void check_passages(const Passages& passages) {
  require(passages.words >= 1, "--passage-words: expected 1 or more, found {}", passages.words);
  if (passages.files.empty() && passages.questions.empty()) throw CLI::RequiredError("files");
  for (const std::string& file : passages.files) require(std::filesystem::exists(file), "{}: no such file", file);
}

std::string count(int64_t number) { return format_count(static_cast<uint64_t>(number)); }

void add_passages(const Passages& passages, IndexWriter& writer) {
  constexpr int64_t kTold = 20'000;  // nobody knows how many there are before the files have been read
  int64_t read = 0;
  const std::function<void(IndexedPassage)> add = [&](IndexedPassage passage) {
    writer.add(std::move(passage));
    if (++read % kTold == 0) tell(count(read) + " passages read");
  };
  for (const std::string& file : passages.files) read_passages(file, passages.words, add, passages.cut_records);
  for (const std::string& file : passages.questions) read_passages(read_questions(file), add);
}

void print_changes(const std::string& index, const IndexChanges& changes, double start) {
  std::string line = fmt::format("{}: {} passages added", index, count(changes.added));
  if (changes.present > 0) line += fmt::format(", {} were there", count(changes.present));
  print_beside({}, fmt::format("{}; {:.1f} s, {}\n", line, seconds_now() - start, format_bytes(peak_resident_bytes())));
}

void build(const FillCommand& command) {
  const double start = seconds_now();
  require(!command.graph || !command.index.encoder.empty(), "--hnsw links vectors: expected an --encoder beside it");
  check_index_words(command.words, "--words");
  check_passages(command.passages);
  IndexDescription description{.words = command.words};
  std::unique_ptr<BertEncoder> encoder;
  if (!command.index.encoder.empty()) {
    description.encoder = std::filesystem::absolute(command.index.encoder).lexically_normal();
    description.encoder_sha256 = encoder_sha256_of(description.encoder);
    encoder = std::make_unique<BertEncoder>(description.encoder, resolve_device({.device = command.index.device}));
    description.width = encoder->width();
    if (command.graph) description.graph = GraphOptions{};
  }
  const IndexChanges changes = build_index(command.index.index, description, encoder.get(), [&](IndexWriter& writer) {
    writer.on_linking(progress_bar("linking vectors"));
    add_passages(command.passages, writer);
  });
  print_changes(command.index.index, changes, start);
}

void add(const FillCommand& command) {
  const double start = seconds_now();
  check_passages(command.passages);
  const std::unique_ptr<BertEncoder> encoder = open_encoder(command.index, read_description(command.index.index));
  IndexWriter writer(command.index.index, encoder.get());
  add_passages(command.passages, writer);
  print_changes(command.index.index, writer.commit(), start);
}

struct DeleteCommand {
  std::string index, file;
  std::vector<std::string> ids;
};

void remove(const DeleteCommand& command) {
  std::vector<std::string> ids = command.ids;
  if (!command.file.empty()) {
    TextFile file(command.file);
    for (std::string line; file.next_line(line);) ids.push_back(line);
  }
  if (ids.empty()) throw CLI::RequiredError("id");
  IndexWriter writer(command.index, nullptr);
  for (const std::string& id : ids) require(writer.remove(id), "{}: no passage has the id \"{}\"", command.index, id);
  print_beside({}, fmt::format("{}: {} passages deleted\n", command.index, count(writer.commit().removed)));
}

void add_passage_options(CLI::App& command, Passages& passages) {
  command
      .add_option("--passage-words", passages.words,
                  "Words of a passage at most, where plain text is cut; passages end where sentences do")
      ->capture_default_str();
  command.add_flag("--cut-records", passages.cut_records, "Cut the texts of .jsonl files as well");
  add_strings(command, "--questions", passages.questions, Strings::several,
              "Files of questions (docs/eval.md) whose passages are taken")
      ->type_name("FILE...");
}

void add_files(CLI::App& command, Passages& passages) {
  add_strings(command, "files", passages.files, Strings::several,
              "Passages: .jsonl (fields id, title, text), or plain text, which is cut; either as .zst or .gz")
      ->type_name("FILE...");
}

void add_build_command(CLI::App& index) {
  auto command = std::make_shared<FillCommand>();
  CLI::App* sub = index.add_subcommand("build", "Build an index of passages");
  sub->add_option("--out", command->index.index, "The index, a directory that is not there yet")
      ->type_name("DIRECTORY")
      ->required();
  add_encoder_options(*sub, command->index,
                      "A BERT-family encoder whose vectors are kept as well, a Hugging Face directory such as "
                      "all-MiniLM-L6-v2's; without it words alone are searched");
  sub->add_option("--words", command->words,
                  "How words are compared: unicode61 (lower case, no accents), or porter (English stems besides)")
      ->capture_default_str();
  sub->add_flag("--hnsw", command->graph,
                "Link near vectors to each other (HNSW), so that a search looks at few of millions");
  add_passage_options(*sub, command->passages);
  add_files(*sub, command->passages);
  sub->callback([command] { build(*command); });
}

void add_add_command(CLI::App& index) {
  auto command = std::make_shared<FillCommand>();
  CLI::App* sub = index.add_subcommand("add", "Add passages to an index: all of them or, on an error, none");
  add_index_argument(*sub, command->index);
  add_encoder_options(*sub, command->index, "Where the index's encoder is now (default: where it was)");
  add_passage_options(*sub, command->passages);
  add_files(*sub, command->passages);
  sub->callback([command] { add(*command); });
}

void add_delete_command(CLI::App& index) {
  auto command = std::make_shared<DeleteCommand>();
  CLI::App* sub =
      index.add_subcommand("delete", "Delete passages from an index: all that are named or, on an error, none");
  sub->add_option("index", command->index, "The index")->type_name("DIRECTORY")->required();
  add_strings(*sub, "id", command->ids, Strings::several, "Ids of passages")->type_name("ID...");
  sub->add_option("--ids", command->file, "A text file with an id a line")->type_name("FILE");
  sub->callback([command] { remove(*command); });
}

void add_compact_command(CLI::App& index) {
  auto directory = std::make_shared<std::string>();
  CLI::App* sub = index.add_subcommand("compact", "Give back the space of deleted passages; link added vectors");
  sub->add_option("index", *directory, "The index")->type_name("DIRECTORY")->required();
  sub->callback([directory] {
    IndexWriter writer(*directory, nullptr);
    writer.on_linking(progress_bar("linking vectors"));
    writer.compact();
    writer.commit();
  });
}

}  // namespace

void add_index_argument(CLI::App& command, IndexOptions& options) {
  command.add_option("index", options.index, "The index")->type_name("DIRECTORY")->required();
}

void add_encoder_options(CLI::App& command, IndexOptions& options, const std::string& encoder_help) {
  command.add_option("--encoder", options.encoder, encoder_help)->type_name("DIRECTORY");
  command.add_option("--device", options.device, "Where the encoder computes: auto, cpu, cuda or cuda:N")
      ->capture_default_str();
}

std::unique_ptr<BertEncoder> open_encoder(const IndexOptions& options, const IndexDescription& description) {
  return open_encoder(options.index, description, options.encoder, resolve_device({.device = options.device}));
}

void add_index_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("index", "Keep passages and find those that fit a question");
  command->require_subcommand(1);
  add_build_command(*command);
  add_add_command(*command);
  add_delete_command(*command);
  add_compact_command(*command);
  add_index_search_command(*command);
}

}  // namespace cepe
