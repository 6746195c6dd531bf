#include "apps/generate_many.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "apps/output.h"
#include "apps/output_files.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json_text.h"
#include "base/output_file.h"
#include "base/report.h"
#include "generate/records/answer_records.h"

namespace cepe {
namespace {

// Answers as they come: on standard output at once, in a file that appears when it is whole.
class AnswerLines {
 public:
  explicit AnswerLines(const std::string& path) {
    if (!is_standard_output(path)) file_.emplace(path);
  }
  void write(const nlohmann::json& line) {
    const std::string text = json_text(line) + "\n";
    file_ ? file_->write(text) : print(text);
  }
  void commit() {
    if (file_) file_->commit();
  }

 private:
  std::optional<AtomicFile> file_;
};

nlohmann::json as_json(size_t index, const PromptRecord& record, const RecordAnswer& answer) {
  nlohmann::json line = {{"id", record.id}, {"index", index}};
  if (!answer.error.empty()) {
    line["error"] = answer.error;
    return line;
  }
  const Generation& made = answer.generation;
  line["text"] = made.text;
  line["stop_reason"] = stop_reason_name(made.reason);
  line["tokens"] = made.tokens;
  line["context_tokens"] = answer.context_tokens;
  line["prompt_tokens"] = answer.prompt_tokens;
  line["generated_tokens"] = made.tokens.size();
  if (answer.read_tokens < answer.context_tokens) line["read_tokens"] = answer.read_tokens;
  if (made.read_share < 1) line["read_share"] = made.read_share;
  if (!answer.expanded.empty()) line["expanded"] = places_as_json(answer.expanded);
  return line;
}

std::string summary(size_t prompts, const AnsweredRecords& done) {
  const auto count = [](int64_t number) { return format_count(static_cast<uint64_t>(number)); };
  return fmt::format(
      "{} prompts, {} context tokens encoded, {} prompt tokens, {} generated tokens; {:.2f} s, {:.1f} tokens/s",
      count(static_cast<int64_t>(prompts)), count(done.encoded_tokens), count(done.prompt_tokens),
      count(done.generated_tokens), done.seconds, static_cast<double>(done.generated_tokens) / done.seconds);
}

// The files that are read.
std::vector<std::string> inputs(const GenerateManyOptions& many, const std::vector<PromptRecord>& records) {
  std::set<std::string> files{many.prompts};
  for (const PromptRecord& record : records) files.insert(record.context.begin(), record.context.end());
  return {files.begin(), files.end()};
}

}  // namespace

void generate_many(const CLI::App& command, const GenerateManyOptions& many, const GenerationOptions& options,
                   const ModelOptions& model) {
  require(!many.out.empty(), "--prompts: --out FILE is needed: the file for the answers, or - for standard output");
  require(many.sequences >= 1 && many.sequences <= 4096, "--sequences: expected 1 to 4096, found {}", many.sequences);
  const std::vector<PromptRecord> records =
      read_prompt_records(many.prompts, {.system = system_of(command, options),
                                         .context = options.context,
                                         .max_tokens = options.max_tokens,
                                         .sampling = sampling_of(command, options),
                                         .temperature_given = temperature_of(command, options).has_value(),
                                         .stop = options.stop});
  const auto reads = [](const PromptRecord& record) { return !record.context.empty() || !record.context_text.empty(); };
  require(!expand_of(options.expand).any() || std::any_of(records.begin(), records.end(), reads),
          "{}: there is no context: no record of {} has one, and --context names no files",
          options.expand.chunks > 0 ? "--expand" : "--top-chunks", many.prompts);
  check_output_files({{"--out", is_standard_output(many.out) ? "" : many.out}}, inputs(many, records));
  AnswerLines lines(many.out);
  const OpenedModel opened = open_model(model);
  tell_unused_reading(options, opened.model);
  const PromptBuilder builder(opened, many.chat_template);
  if (!builder.has_template() && !many.chat_template.none)
    tell(model.model + " has no chat template, so prompts are continued as they are (as with --raw)");
  const std::vector<Prompt> prompts = build_prompts(opened, builder, records);

  AnsweredRecords done;
  {
    Progress bar("answering the prompts", static_cast<int64_t>(records.size()));
    AnswerRecordsOptions work{
        .int8 = int8_latents_from_name(options.latents),
        .expand = expand_of(options),
        .builder = &builder,
        .on_answer = [&](size_t i, const RecordAnswer& answer) { lines.write(as_json(i, records[i], answer)); },
        .on_end = [&] { bar.advance(); }};
    work.engine.sequences = many.sequences;
    work.engine.reading = context_reading(options, opened.model);
    done = answer_records(opened, records, prompts, work);
  }
  lines.commit();
  tell(summary(records.size(), done));
  require(done.failed == 0, "{} of {} prompts failed: the lines with \"error\" in {} say why", done.failed,
          records.size(), many.out);
}

}  // namespace cepe
