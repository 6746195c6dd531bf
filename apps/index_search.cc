// cepe index search: ranked passages for one query, or for a file of questions (docs/retrieval.md).
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "apps/commands.h"
#include "apps/index_commands.h"
#include "apps/options.h"
#include "apps/output.h"
#include "apps/output_files.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json_text.h"
#include "base/output_file.h"
#include "base/report.h"
#include "retrieval/search.h"
#include "tasks/questions/question_files.h"

namespace cepe {
namespace {

struct SearchCommand {
  IndexOptions index;
  std::string query, rank, json, queries, data_form = "auto", out;
  int64_t count = 10, limit = 0;
  bool exact = false;
};

// The beginning of a text as one line.
std::string snippet(const std::string& text) {
  constexpr size_t kLength = 160;
  std::string line;
  for (const char c : text.substr(0, text.size() <= kLength ? text.size() : text.rfind(' ', kLength))) {
    line += c == '\n' || c == '\r' || c == '\t' ? ' ' : c;
  }
  return line.size() < text.size() ? line + " ..." : line;
}

void search_one(const SearchCommand& command, const IndexReader& reader, const BertEncoder* encoder, Ranking ranking) {
  const std::vector<Hit> hits = search(reader, encoder, {command.query}, ranking, command.count)[0];
  nlohmann::ordered_json found = nlohmann::ordered_json::array();
  std::string lines;
  for (size_t i = 0; i < hits.size(); ++i) {
    const StoredPassage passage = reader.passage(hits[i].slot);
    found.push_back({{"rank", i + 1},
                     {"score", hits[i].score},
                     {"id", passage.id},
                     {"title", passage.title},
                     {"text", passage.text}});
    lines += fmt::format("{:>3}  {:.4f}  {}  {}\n     {}\n", i + 1, hits[i].score, printable(passage.id),
                         printable(passage.title), printable(snippet(passage.text)));
  }
  if (command.json != "-") print(lines.empty() ? "no passage fits\n" : lines);
  if (command.json.empty()) return;
  const nlohmann::json result = {{"query", command.query}, {"rank", command.rank}, {"passages", found}};
  write_output(command.json, json_text(result, 2) + "\n");
}

std::string recall_table(const std::vector<GoldRecall>& recall, int64_t questions) {
  Table table({"first", "gold passages found", "all of a question's found"});
  for (const GoldRecall& at : recall) {
    table.add_row(
        {std::to_string(at.k), fmt::format("{:.1f} %", 100 * at.found), fmt::format("{:.1f} %", 100 * at.all)});
  }
  return fmt::format("{} questions with gold passages\n{}", format_count(static_cast<uint64_t>(questions)),
                     table.str());
}

void search_many(const SearchCommand& command, const IndexReader& reader, const BertEncoder* encoder, Ranking ranking) {
  check_output_files({{"--out", command.out}}, {command.queries});
  check_writable(command.out);
  QuestionSet set = read_questions(command.queries, question_form_from_name(command.data_form, "--data-form"));
  if (command.limit > 0 && static_cast<size_t>(command.limit) < set.questions.size()) {
    set.questions.resize(static_cast<size_t>(command.limit));
  }
  const double start = seconds_now();
  constexpr size_t kTogether = 64;
  std::vector<std::vector<Hit>> hits;
  std::optional<AtomicFile> file;  // a device or standard output gets all at the end
  std::error_code error;
  const bool replaced =
      !std::filesystem::exists(command.out, error) || std::filesystem::is_regular_file(command.out, error);
  if (replaced && !is_standard_output(command.out)) file.emplace(command.out);
  std::string records;
  {
    Progress progress("searching", static_cast<int64_t>(set.questions.size()));
    for (size_t begin = 0; begin < set.questions.size(); begin += kTogether) {
      const size_t end = std::min(begin + kTogether, set.questions.size());
      std::vector<std::string> queries;
      for (size_t q = begin; q < end; ++q) queries.push_back(set.questions[q].question);
      for (std::vector<Hit>& found : search(reader, encoder, queries, ranking, command.count)) {
        records += dpr_record(reader, set, set.questions[hits.size()], found) + "\n";
        hits.push_back(std::move(found));
      }
      if (file) file->write(std::exchange(records, ""));
      progress.advance(static_cast<int64_t>(end - begin));
    }
  }
  const double seconds = seconds_now() - start;
  file ? file->commit() : write_output(command.out, records);
  std::vector<int64_t> ks;
  for (const int64_t k : {1, 2, 5, 10, 20, 50, 100}) {
    if (k <= command.count) ks.push_back(k);
  }
  int64_t counted = 0;
  const std::vector<GoldRecall> recall = gold_recall(reader, set, hits, ks, counted);
  if (counted > 0) print_beside({command.out}, recall_table(recall, counted));
  tell(fmt::format("{} questions, {:.1f} ms each; {}", hits.size(),
                   1000 * seconds / static_cast<double>(std::max<size_t>(hits.size(), 1)), command.out));
}

void run_search(SearchCommand command) {
  require(command.count >= 1, "--count: expected 1 or more, found {}", command.count);
  require(command.limit >= 0, "--limit: expected 1 or more, or 0 for all, found {}", command.limit);
  const bool many = !command.queries.empty();
  require(many || !command.query.empty(), "expected a query, or a file of questions with --queries");
  require(!many || command.query.empty(), "--queries: expected no query beside a file of questions");
  require(many == !command.out.empty(), "--queries and --out: expected both or neither");
  require(!many || command.json.empty(), "--json: with --queries the result is the file of --out");
  const bool by_graph = !command.exact && command.rank != "bm25";
  const IndexReader reader(command.index.index, by_graph ? VectorSearch::graph : VectorSearch::exact);
  const bool vectors = reader.description().width > 0;
  if (command.rank.empty()) command.rank = vectors ? "fused" : "bm25";
  const Ranking ranking = ranking_from_name(command.rank, "--rank");
  std::unique_ptr<BertEncoder> encoder;
  if (ranking != Ranking::bm25) encoder = open_encoder(command.index, reader.description());
  many ? search_many(command, reader, encoder.get(), ranking) : search_one(command, reader, encoder.get(), ranking);
}

}  // namespace

void add_index_search_command(CLI::App& index) {
  auto command = std::make_shared<SearchCommand>();
  CLI::App* sub = index.add_subcommand("search", "Find the passages that fit a query, or each question of a file");
  add_index_argument(*sub, command->index);
  sub->add_option("query", command->query, "Any text")->type_name("TEXT");
  sub->add_option("--rank", command->rank,
                  "bm25 (words), dense (vectors) or fused (both, by reciprocal ranks); default: fused, or bm25 where "
                  "the index has no vectors");
  sub->add_flag("--exact", command->exact, "Look at every vector, also where the index was built with --hnsw");
  sub->add_option("--count", command->count, "Passages for each query at most")->capture_default_str();
  add_json_option(*sub, command->json, "the passages found, their texts whole,");
  sub->add_option("--queries", command->queries,
                  "A file of questions in any form that cepe eval qa reads (docs/eval.md); where they name gold "
                  "passages, how many of these were found is shown")
      ->type_name("FILE");
  sub->add_option("--data-form", command->data_form, "The form of that file, where it is not told from its content")
      ->capture_default_str();
  sub->add_option("--limit", command->limit, "Questions of the file at most; 0: all")->capture_default_str();
  sub->add_option("--out", command->out,
                  "What was found for each question: an object a line with question, answers and ctxs (DPR's form), "
                  "which cepe eval qa reads")
      ->type_name("FILE");
  add_encoder_options(*sub, command->index, "Where the index's encoder is now (default: where it was)");
  sub->callback([command] { run_search(*command); });
}

}  // namespace cepe
