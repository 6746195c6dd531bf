// cepe eval qa: questions with passages in the decoder's window and in the encoder (docs/eval.md).
#include <algorithm>
#include <map>
#include <memory>

#include "apps/eval_run.h"
#include "apps/options.h"
#include "apps/output.h"
#include "base/error.h"
#include "eval/question_report.h"
#include "tasks/questions/question_files.h"
#include "tasks/questions/question_tasks.h"

namespace cepe {
namespace {

struct QaCommand {
  EvalOptions run;
  std::vector<std::string> data, gold = {"always"}, readers, positions = {"random"},
                                 controls = {"no-passages", "other-passages"};
  std::string data_form = "auto", distractors = "article", evidence;
  QuestionTaskOptions options;
};

// Options whose values no model changes.
void read_options(QaCommand& given) {
  QuestionTaskOptions& options = given.options;
  options.gold.clear();
  for (const std::string& name : given.gold) options.gold.push_back(gold_passage_from_name(name, "--gold"));
  options.gold_readers.clear();
  for (const std::string& name : given.readers) {
    options.gold_readers.push_back(passage_reader_from_name(name, "--gold-reader"));
  }
  for (const std::string& position : given.positions) check_gold_position(position, "--gold-position");
  options.gold_positions = given.positions;
  require(given.distractors == "article" || given.distractors == "others",
          "--distractors: expected article or others, found \"{}\"", given.distractors);
  options.same_article = given.distractors == "article";
  options.no_passages = options.other_passages = false;
  for (const std::string& control : given.controls) {
    const bool known = control == "no-passages" || control == "other-passages" || control == "none";
    require(known, "--controls: expected no-passages, other-passages or none, found \"{}\"", control);
    if (control == "no-passages") options.no_passages = true;
    if (control == "other-passages") options.other_passages = true;
  }
  for (const int64_t count : options.decoder_passages) {
    require(count >= 0, "--decoder-passages: expected 0 or more, found {}", count);
  }
  for (const int64_t count : options.encoder_passages) {
    require(count >= 0, "--encoder-passages: expected 0 or more, found {}", count);
  }
  require(options.questions >= 0, "--limit: expected 1 or more, or 0 for all, found {}", options.questions);
  require(options.demonstrations >= 0, "--demonstrations: expected 0 or more, found {}", options.demonstrations);
  require(options.max_tokens >= 1, "--max-tokens: expected 1 or more, found {}", options.max_tokens);
}

// What depends on whether the model has an encoder.
void read_passages(QaCommand& given, bool encoder) {
  QuestionTaskOptions& options = given.options;
  if (options.decoder_passages.empty())
    options.decoder_passages = encoder ? std::vector<int64_t>{0} : std::vector<int64_t>{1, 5};
  if (options.encoder_passages.empty())
    options.encoder_passages = encoder ? std::vector<int64_t>{1, 5} : std::vector<int64_t>{0};
  if (options.gold_readers.empty()) options.gold_readers = {PassageReader::encoder};
  for (const int64_t count : options.encoder_passages) {
    require(count == 0 || encoder, "--encoder-passages {}: {} has no encoder, so that its decoder must read them",
            count, given.run.model.model);
  }
}

// Files of one name get their directory's before it.
std::vector<std::shared_ptr<const QuestionSet>> read_sets(const QaCommand& given) {
  const QuestionForm form = question_form_from_name(given.data_form, "--data-form");
  require(given.evidence.empty() || std::filesystem::is_directory(given.evidence),
          "--evidence: expected a directory, found {}", given.evidence);
  std::vector<QuestionSet> sets;
  std::map<std::string, int> names;
  for (const std::string& file : given.data) {
    std::vector<std::string> faults;
    sets.push_back(read_questions(file, form, {.faults = &faults, .evidence = given.evidence}));
    tell_faults(file, faults);
    ++names[sets.back().name];
  }
  require(
      given.evidence.empty() || std::any_of(sets.begin(), sets.end(),
                                            [](const QuestionSet& set) { return set.form == QuestionForm::triviaqa; }),
      "--evidence: expected a file of TriviaQA's among --data, found none");
  std::vector<std::shared_ptr<const QuestionSet>> shared;
  for (size_t i = 0; i < sets.size(); ++i) {
    if (names[sets[i].name] > 1) {
      const std::filesystem::path directory = std::filesystem::absolute(given.data[i]).lexically_normal().parent_path();
      sets[i].name = directory.filename().string() + "/" + sets[i].name;
    }
    shared.push_back(std::make_shared<const QuestionSet>(std::move(sets[i])));
  }
  return shared;
}

// All that the answers depend on besides the model.
nlohmann::json settings(const QaCommand& given) {
  const QuestionTaskOptions& options = given.options;
  std::vector<std::string> readers;
  for (const PassageReader reader : options.gold_readers) readers.emplace_back(passage_reader_name(reader));
  nlohmann::json recorded = {{"command", "eval qa"},
                             {"data", recorded_files(given.data)},
                             {"data_form", given.data_form},
                             {"decoder_passages", options.decoder_passages},
                             {"encoder_passages", options.encoder_passages},
                             {"gold", given.gold},
                             {"gold_reader", readers},
                             {"gold_position", given.positions},
                             {"distractors", given.distractors},
                             {"controls", given.controls},
                             {"demonstrations", options.demonstrations},
                             {"demonstration_passages", options.demonstration_passages},
                             {"unanswerable", options.unanswerable},
                             {"limit", options.questions},
                             {"max_tokens", options.max_tokens},
                             {"seed", options.seed},
                             // Answers once began with their white space: such runs cannot go on by this rule.
                             {"leading_space", "dropped"}};
  // Runs that were begun before there was such an option go on where it is off.
  if (!given.evidence.empty()) recorded["evidence"] = recorded_path(given.evidence);
  return recorded;
}

void write_report(const QaCommand& given, const TaskRun& run, const TaskRunOptions& options) {
  const QuestionReport report = report_questions(run.examples);
  write_question_plot(report, options.directory / "plot.svg");
  nlohmann::json results = nlohmann::json::array(), by_answerable = nlohmann::json::array();
  for (const Result& result : report.results) results.push_back(to_json(result));
  for (const Result& result : report.by_answerable) by_answerable.push_back(to_json(result));
  write_eval_results(given.run, {run.examples.size(), run.resumed, run.cost, run.unmatched_answers},
                     options.configuration, question_table(report),
                     {{"results", results}, {"by_answerable", by_answerable}});
}

void run_qa(QaCommand& given) {
  const PromptForm form = prompt_form_from_name(given.run.form, "--form");
  read_options(given);
  const std::vector<std::shared_ptr<const QuestionSet>> sets = read_sets(given);
  const OpenedModel opened = open_model(given.run.model);
  read_passages(given, opened.model.encoder.has_value());
  QuestionTaskOptions& options = given.options;
  options.decoder_window = decoder_window(opened.model.config.decoder);
  options.count_tokens = [prompts = std::make_shared<const QuestionPrompts>(opened, form)](const Question& question) {
    return static_cast<int64_t>(prompts->tokens(question).size());
  };
  const QuestionTasks made = question_tasks(sets, options);
  for (const std::string& note : made.notes) tell(note);
  if (wrote_inputs_only(given.run, made.tasks)) return;
  const TaskRunOptions run = eval_run_options(given.run, opened, settings(given));
  write_report(given, run_tasks(opened, made.tasks, run), run);
}

void add_passage_options(CLI::App& command, QaCommand& given) {
  QuestionTaskOptions& options = given.options;
  options.decoder_passages.clear();
  options.encoder_passages.clear();
  command
      .add_option("--decoder-passages", options.decoder_passages,
                  "Passages in the decoder's window, such as 0,1,10; each pair with --encoder-passages is a column "
                  "(default: 0; 1,5 where the model has no encoder)")
      ->delimiter(',')
      ->type_name("COUNT,...");
  command
      .add_option(
          "--encoder-passages", options.encoder_passages,
          "Passages through the encoder, each a document, such as 0,1,5,20 (default: 1,5, where the model has one)")
      ->delimiter(',')
      ->type_name("COUNT,...");
  add_strings(command, "--gold", given.gold, Strings::commas,
              "Whether a passage that answers is there: always, never (no passage has an answer), or retrieved (the "
              "first of the question's own, in the file's order)")
      ->capture_default_str();
  add_strings(command, "--gold-reader", given.readers, Strings::commas,
              "Who reads the gold passage where both read passages: encoder, decoder (default: encoder)");
  add_strings(command, "--gold-position", given.positions, Strings::commas,
              "Where it stands among its reader's passages: first, middle, last, random, or how many are before it")
      ->capture_default_str();
  command
      .add_option("--distractors", given.distractors,
                  "Where passages come from when a question's own are too few: article (the gold passage's article, "
                  "then any) or others (any of the file)")
      ->capture_default_str();
  add_strings(command, "--controls", given.controls, Strings::commas,
              "Columns for comparison: no-passages, other-passages (as many of another question), or none")
      ->capture_default_str();
}

}  // namespace

void add_eval_qa_command(CLI::App& eval) {
  auto given = std::make_shared<QaCommand>();
  QuestionTaskOptions& options = given->options;
  CLI::App* command = eval.add_subcommand(
      "qa", "Questions with passages in the decoder's window and in the encoder: EM, F1, has answer");
  add_eval_model_options(*command, given->run);
  add_strings(
      *command, "--data", given->data, Strings::several,
      "Files of questions, .json or .jsonl, plain, .zst or .gz: DPR, SQuAD, HotpotQA, NQ-open, TriviaQA, PopQA, "
      "FlashRAG or plain records")
      ->type_name("FILE ...")
      ->required();
  command
      ->add_option("--data-form", given->data_form,
                   "Their form: auto (by content), dpr, squad, hotpotqa, triviaqa, popqa, nq-open, flashrag, plain or "
                   "answered")
      ->capture_default_str();
  command
      ->add_option(
          "--evidence", given->evidence,
          "TriviaQA's evidence, whose pages are its questions' passages: the directory with wikipedia/ and web/")
      ->type_name("DIRECTORY");
  add_passage_options(*command, *given);
  command->add_option("--demonstrations", options.demonstrations, "Solved questions before the question")
      ->capture_default_str();
  command->add_flag("--demonstration-passages", options.demonstration_passages,
                    "Each with its gold passage, in the decoder's window");
  command->add_flag("--unanswerable", options.unanswerable,
                    "Ask the questions without an answer, too: SQuAD 2.0's scores");
  command->add_option("--limit", options.questions, "Questions of each file, drawn by the seed (0: all)")
      ->capture_default_str();
  command->add_option("--max-tokens", options.max_tokens, "The most tokens of an answer")->capture_default_str();
  add_eval_run_options(*command, given->run);
  command->add_option("--seed", options.seed, "Seed of the examples: the same seed, the same examples")
      ->capture_default_str();
  command->callback([given] { run_qa(*given); });
}

}  // namespace cepe
