// cepe eval icl: in-context learning, demonstrations split between decoder and encoder (docs/icl.md).
#include <map>
#include <memory>
#include <set>

#include "apps/eval_run.h"
#include "apps/options.h"
#include "apps/output.h"
#include "base/error.h"
#include "eval/icl/icl_report.h"
#include "text/text_file.h"

namespace cepe {
namespace {

struct IclCommand {
  EvalOptions run;
  std::vector<std::string> data, demonstrations, tasks = {"plain"}, controls = {"no-demonstrations", "shuffled-labels"};
  std::string calibration = "empty", text_word, label_word;
  IclOptions options;
};

void check_counts(const std::vector<int64_t>& counts, const char* option) {
  for (const int64_t count : counts) require(count >= 0, "{}: expected 0 or more, found {}", option, count);
}

// Options whose values no model changes.
void read_options(IclCommand& given) {
  IclOptions& options = given.options;
  options.no_demonstrations = options.shuffled_labels = false;
  for (const std::string& control : given.controls) {
    const bool known = control == "no-demonstrations" || control == "shuffled-labels" || control == "none";
    require(known, "--controls: expected no-demonstrations, shuffled-labels or none, found \"{}\"", control);
    if (control == "no-demonstrations") options.no_demonstrations = true;
    if (control == "shuffled-labels") options.shuffled_labels = true;
  }
  check_counts(options.decoder_shots, "--decoder-shots");
  check_counts(options.encoder_shots, "--encoder-shots");
  check_counts(options.decoder_alone, "--decoder-alone");
  require(options.limit >= 0, "--limit: expected 1 or more, or 0 for all, found {}", options.limit);
  const std::map<uint64_t, int> seeds = [&] {
    std::map<uint64_t, int> count;
    for (const uint64_t seed : options.seeds) ++count[seed];
    return count;
  }();
  require(seeds.size() == options.seeds.size(), "--seeds: expected each seed once");
  const size_t files = given.data.size();
  require(given.tasks.size() == 1 || given.tasks.size() == files,
          "--task: expected one, or one for each of the {} files of --data, found {}", files, given.tasks.size());
  require(given.demonstrations.empty() || given.demonstrations.size() == files,
          "--demonstrations: expected a file for each of the {} of --data, found {}", files,
          given.demonstrations.size());
}

// What depends on whether the model has an encoder.
void read_shots(IclCommand& given, bool encoder) {
  std::vector<int64_t>& shots = given.options.encoder_shots;
  if (shots.empty()) shots = encoder ? std::vector<int64_t>{0, 18, 38} : std::vector<int64_t>{0};
  for (const int64_t count : shots) {
    require(count == 0 || encoder, "--encoder-shots {}: {} has no encoder, so that its decoder must read them", count,
            given.run.model.model);
  }
}

// The last parts of a path: "sst2/dev.txt" of two.
std::string last_parts(const std::filesystem::path& path, ptrdiff_t count) {
  const std::filesystem::path parts = path.relative_path();
  std::filesystem::path last;
  for (auto part = std::prev(parts.end(), std::min(count, std::distance(parts.begin(), parts.end())));
       part != parts.end(); ++part) {
    last /= *part;
  }
  return last.string();
}

// Calls these sets after their files: folder and file, or as many folders more as it takes to tell them apart.
void name_by_files(const std::vector<std::string>& files, const std::vector<size_t>& which,
                   std::vector<LabelledTextSet>& sets) {
  std::map<std::filesystem::path, size_t> paths;
  for (const size_t i : which) {
    const auto [same, fresh] = paths.emplace(std::filesystem::absolute(files[i]).lexically_normal(), i);
    require(fresh, "--data: {} is given twice", files[i]);
  }
  for (ptrdiff_t parts = 2;; ++parts) {
    std::set<std::string> names;
    for (const auto& [path, i] : paths) names.insert(sets[i].name = last_parts(path, parts));
    if (names.size() == paths.size()) return;
  }
}

// Sets are called after their task; plain ones, and such as have one task, after their file.
std::vector<LabelledTextSet> read_sets(const IclCommand& given) {
  std::vector<LabelledTextSet> sets;
  std::map<std::string, int> names;
  for (size_t i = 0; i < given.data.size(); ++i) {
    LabelledTextSet set;
    set.task = label_task_from_name(given.tasks[given.tasks.size() == 1 ? 0 : i], "--task");
    if (!given.text_word.empty()) set.task.text_word = given.text_word;
    if (!given.label_word.empty()) set.task.label_word = given.label_word;
    const std::string& shown = given.demonstrations.empty() ? given.data[i] : given.demonstrations[i];
    set.asked = read_labelled_texts(given.data[i], set.task, LabelledPart::asked);
    set.shown = read_labelled_texts(shown, set.task, LabelledPart::shown);
    set.name = set.task.name == "plain" ? std::filesystem::path(plain_file_name(given.data[i])).stem().string()
                                        : set.task.name;
    ++names[set.name];
    sets.push_back(std::move(set));
  }
  std::vector<size_t> shared;
  for (size_t i = 0; i < sets.size(); ++i) {
    if (names[sets[i].name] > 1) shared.push_back(i);
  }
  name_by_files(given.data, shared, sets);
  return sets;
}

// All that the scores depend on besides the model.
nlohmann::json settings(const IclCommand& given) {
  const IclOptions& options = given.options;
  return {{"command", "eval icl"},
          {"data", recorded_files(given.data)},
          {"demonstrations", recorded_files(given.demonstrations)},
          {"task", given.tasks},
          {"text_word", given.text_word},
          {"label_word", given.label_word},
          {"decoder_shots", options.decoder_shots},
          {"encoder_shots", options.encoder_shots},
          {"decoder_alone", options.decoder_alone},
          {"controls", given.controls},
          {"calibration", given.calibration},
          {"limit", options.limit},
          {"in_order", options.in_order},
          {"seeds", options.seeds}};
}

std::vector<IclSource> sources_of(const IclCommand& given, const OpenedModel& opened) {
  const int64_t window = decoder_window(opened.model.config.decoder);
  std::vector<IclSource> sources;
  for (LabelledTextSet& set : read_sets(given)) {
    // Of those that are ranked: the task's, or the files'.
    size_t longest = 0;
    for (const std::string& label : set.task.labels) longest = std::max(longest, label.size());
    for (const auto* texts : {&set.asked, &set.shown}) {
      for (const LabelledText& one : *texts) longest = std::max(longest, one.label.size());
    }
    // A text of so many bytes has at most as many tokens, and some that stand before it.
    const auto fits = [&](const std::string& prompt) {
      constexpr size_t kBegin = 8;
      const size_t label = longest + 2;
      if (prompt.size() + label + kBegin <= static_cast<size_t>(window)) return true;
      return icl_prompt_tokens(*opened.tokenizer, prompt).size() + label <= static_cast<size_t>(window);
    };
    sources.emplace_back(std::move(set), given.options, fits);
    const IclSource& source = sources.back();
    if (source.left_out() > 0) {
      tell(fmt::format("{}: texts left out, which do not fit in the decoder's window of {} tokens: {}", source.name(),
                       window, source.left_out()));
    }
  }
  return sources;
}

void run_icl_command(IclCommand& given) {
  const IclCalibration calibration = icl_calibration_from_name(given.calibration, "--calibration");
  read_options(given);
  const OpenedModel opened = open_model(given.run.model);
  require(opened.tokenizer != nullptr, "{}: the model has no tokenizer, so text cannot be read", given.run.model.model);
  read_shots(given, opened.model.encoder.has_value());
  const std::vector<IclSource> sources = sources_of(given, opened);
  IclRunOptions options{.directory = given.run.out,
                        .configuration = model_configuration(given.run, opened),
                        .calibration = calibration,
                        .progress = progress_bar("ranking")};
  require(given.run.batch >= 0, "--batch: expected 1 or more, or 0, found {}", given.run.batch);
  options.batch = given.run.batch > 0 ? given.run.batch : opened.model.device().is_cpu() ? 1 : 32;
  options.configuration.update(settings(given));
  // Runs that were begun before there was such an option go on where it is off.
  if (options.batch > 1) options.configuration["batch"] = options.batch;
  const IclRun run = run_icl(opened, sources, options);
  const IclReport report = report_icl(run.records);
  write_icl_plot(report, options.directory / "plot.svg");
  nlohmann::json results = nlohmann::json::array(), by_seed = nlohmann::json::array(), labels;
  for (const Result& result : report.results) results.push_back(to_json(result));
  for (const Result& result : report.by_seed) by_seed.push_back(to_json(result));
  for (const IclSource& source : sources) labels[source.name()] = source.labels();
  write_eval_results(given.run, {run.records.size(), run.resumed, run.cost}, options.configuration, icl_table(report),
                     {{"results", results}, {"by_seed", by_seed}, {"labels", labels}});
}

void add_shot_options(CLI::App& command, IclCommand& given) {
  IclOptions& options = given.options;
  options.encoder_shots.clear();
  command
      .add_option("--decoder-shots", options.decoder_shots,
                  "Demonstrations in the decoder's window, such as 0,2; each pair with --encoder-shots is a column")
      ->delimiter(',')
      ->type_name("COUNT,...")
      ->capture_default_str();
  command
      .add_option("--encoder-shots", options.encoder_shots,
                  "Demonstrations through the encoder, each a document (default: 0,18,38; 0 where the model has no "
                  "encoder)")
      ->delimiter(',')
      ->type_name("COUNT,...");
  command
      .add_option("--decoder-alone", options.decoder_alone,
                  "Columns beside: so many demonstrations in the decoder's window and none in the encoder")
      ->delimiter(',')
      ->type_name("COUNT,...");
  add_strings(
      command, "--controls", given.controls, Strings::commas,
      "Columns for comparison: no-demonstrations, shuffled-labels (those of the encoder's demonstrations change "
      "places), or none")
      ->capture_default_str();
}

}  // namespace

void add_eval_icl_command(CLI::App& eval) {
  auto given = std::make_shared<IclCommand>();
  IclOptions& options = given->options;
  CLI::App* command = eval.add_subcommand(
      "icl", "In-context learning: labels ranked by likelihood after demonstrations in the decoder and the encoder");
  add_eval_model_options(*command, given->run);
  add_strings(*command, "--data", given->data, Strings::several,
              "Labelled texts that are asked: .jsonl, .json, .csv, .tsv or lines LABEL TEXT, plain, .zst or .gz")
      ->required();
  add_strings(*command, "--demonstrations", given->demonstrations, Strings::several,
              "Labelled texts that are shown, a file for each of --data (default: the other texts of --data; of "
              "CLINC150's file those that are for training)");
  add_strings(*command, "--task", given->tasks, Strings::commas,
              "What the files of --data are, one for each or one for all: sst2, sst5, mr, trec, ag_news, dbpedia, "
              "banking77, clinc150 or plain")
      ->capture_default_str();
  command->add_option("--text-word", given->text_word, "What stands before a text (default: the task's, or Text)")
      ->type_name("WORD");
  command->add_option("--label-word", given->label_word, "What stands before a label (default: the task's, or Label)")
      ->type_name("WORD");
  add_shot_options(*command, *given);
  command
      ->add_option("--calibration", given->calibration,
                   "What a label's likelihood is divided by: its likelihood alone (empty), after the label's word "
                   "(domain), after the same prompt with N/A for the text (content-free), or none")
      ->capture_default_str();
  command->add_option("--limit", options.limit, "Asked texts of each file (0: all)")->capture_default_str();
  command->add_flag("--in-order", options.in_order, "The first ones of each file (else drawn by the first seed)");
  command->add_option("--seeds", options.seeds, "Seeds of the demonstrations; each is a run of all asked texts")
      ->delimiter(',')
      ->type_name("SEED,...")
      ->default_str("42,43,44");
  command
      ->add_option("--batch", given->run.batch,
                   "Prompts scored together, of one text and seed or more (0: one by one on a CPU, 32 on a GPU)")
      ->capture_default_str();
  command->callback([given] { run_icl_command(*given); });
}

}  // namespace cepe
