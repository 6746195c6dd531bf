// cepe eval retrieval-lm: language modelling with retrieved passages (docs/retrieval.md).
#include "apps/eval_retrieval_lm.h"

#include <memory>

#include "apps/eval_run.h"
#include "apps/index_commands.h"
#include "apps/options.h"
#include "apps/output.h"
#include "apps/preset.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json_text.h"
#include "base/report.h"
#include "eval/retrieval_lm.h"
#include "retrieval/search.h"

namespace cepe {
namespace {

struct RetrievalLmCommand {
  ModelOptions model;
  IndexOptions index;
  std::vector<std::string> data, readers = {"other", "replug", "prompt"};
  std::string rank;
  RetrievalLmOptions options;
};

void read_readers(RetrievalLmCommand& given) {
  RetrievalLmOptions& options = given.options;
  options.other = options.replug = options.prompt = false;
  for (const std::string& reader : given.readers) {
    const bool known = reader == "other" || reader == "replug" || reader == "prompt" || reader == "none";
    require(known, "--beside: expected other, replug, prompt or none, found \"{}\"", reader);
    if (reader == "other") options.other = true;
    if (reader == "replug") options.replug = true;
    if (reader == "prompt") options.prompt = true;
  }
}

nlohmann::json configuration(const RetrievalLmCommand& given, const OpenedModel& opened, const IndexReader& reader) {
  const RetrievalLmOptions& options = given.options;
  EvalOptions run;
  run.model = given.model;
  nlohmann::json recorded = model_configuration(run, opened);
  recorded.update({{"command", "eval retrieval-lm"},
                   {"index", recorded_path(given.index.index)},
                   {"index_passages", reader.passages()},
                   {"index_words", reader.description().words},
                   {"encoder_sha256", reader.description().encoder_sha256},
                   {"rank", given.rank},
                   {"data", recorded_files(given.data)},
                   {"decoder_tokens", options.decoder_tokens},
                   {"query_tokens", options.query_tokens},
                   {"passage_tokens", options.passage_tokens},
                   {"passages", options.passages},
                   {"windows", options.windows},
                   {"stride", options.stride},
                   {"beside", given.readers}});
  return recorded;
}

FindPassages finder(const IndexReader& reader, const BertEncoder* encoder, Ranking ranking) {
  return [&reader, encoder, ranking](const std::string& query, int64_t count) {
    std::vector<RetrievedPassage> found;
    const std::vector<std::vector<Hit>> hits = search(reader, encoder, {query}, ranking, count);
    for (const Hit& hit : hits.front()) {
      const StoredPassage passage = reader.passage(hit.slot);
      found.push_back({passage.id, passage_text({passage.title, passage.text, ""}), hit.score, passage.title.size()});
    }
    return found;
  };
}

void run(RetrievalLmCommand& given) {
  read_readers(given);
  RetrievalLmOptions& options = given.options;
  const IndexReader reader(given.index.index);
  if (given.rank.empty()) given.rank = reader.description().width > 0 ? "dense" : "bm25";
  const Ranking ranking = ranking_from_name(given.rank, "--rank");
  std::unique_ptr<BertEncoder> encoder;
  given.index.device = given.model.device;
  if (ranking != Ranking::bm25) encoder = open_encoder(given.index, reader.description());
  const OpenedModel opened = open_model(given.model);
  require(opened.tokenizer != nullptr, "{}: the model has no tokenizer, so text cannot be read", given.model.model);
  const TokenDocuments text = read_token_documents({given.data.begin(), given.data.end()}, *opened.tokenizer);
  for (const std::string& note : text.notes) tell(note);
  options.configuration = configuration(given, opened, reader);
  options.progress = progress_bar("scoring");
  const RetrievalLmRun result = score_with_retrieval(opened.model, *opened.tokenizer, text.documents,
                                                     finder(reader, encoder.get(), ranking), options);
  for (const std::string& note : result.notes) tell(note);
  nlohmann::json results = to_json(result);
  results["configuration"] = options.configuration;
  const std::string table = retrieval_lm_table(result);
  write_file(options.directory / "results.json", json_text(results, 2) + "\n");
  write_file(options.directory / "table.md", table);
  write_retrieval_lm_plot(result, options.directory / "plot.svg");
  print(table);
  tell(
      fmt::format("{} windows of {} documents, {} of them from an earlier run; search {:.1f} ms a window; left out: {} "
                  "passages that hold words of the window; {} windows found fewer than {} passages; the control of {} "
                  "reads fewer than cepe",
                  result.windows, result.documents, result.resumed, 1000 * result.search_seconds, result.left_out,
                  result.short_windows, options.passages.back(), result.short_controls));
}

}  // namespace

void add_eval_retrieval_lm_command(CLI::App& eval) {
  auto given = std::make_shared<RetrievalLmCommand>();
  RetrievalLmOptions& options = given->options;
  CLI::App* command =
      eval.add_subcommand("retrieval-lm", "Language modelling with passages that an index finds for each window");
  add_model_options(*command, given->model);
  add_window_option(*command, given->model);
  command->add_option("--index", given->index.index, "The index of passages (cepe index)")
      ->type_name("DIRECTORY")
      ->required();
  add_strings(*command, "--data", given->data, Strings::several,
              "Text to score: .txt (a document each) or .jsonl (a record each), plain, .zst or .gz")
      ->type_name("FILE...")
      ->required();
  command->add_option("--out", options.directory, "Directory of the results; a run that was interrupted goes on there")
      ->type_name("DIRECTORY")
      ->required();
  add_preset_option(*command);
  command->add_option("--rank", given->rank,
                      "bm25, dense or fused; its scores weigh RePlug's passages (default: dense, or bm25 where the "
                      "index has no vectors)");
  command->add_option("--encoder", given->index.encoder, "Where the index's encoder is now (default: where it was)")
      ->type_name("DIRECTORY");
  command->add_option("--passages", options.passages, "Counts of passages, ascending from 0 (default 0,8,20,50,100)")
      ->delimiter(',')
      ->type_name("COUNT,...");
  add_strings(*command, "--beside", given->readers, Strings::commas,
              "Rows beside cepe's: other (another query's passages), replug, prompt (the plain decoder with the "
              "passages in its window, where they fit), or none")
      ->capture_default_str();
  command->add_option("--passage-tokens", options.passage_tokens, "Tokens of a passage at most")->capture_default_str();
  command->add_option("--decoder-tokens", options.decoder_tokens, "Tokens in the decoder")->capture_default_str();
  command->add_option("--query-tokens", options.query_tokens, "The first so many are the query, the others are scored")
      ->capture_default_str();
  command->add_option("--windows", options.windows, "At most so many windows a domain; 0: all that fit")
      ->capture_default_str();
  command->add_option("--stride", options.stride, "Least distance of two windows in tokens")->capture_default_str();
  command->callback([given] { run(*given); });
}

}  // namespace cepe
