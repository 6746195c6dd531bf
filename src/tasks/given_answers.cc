#include "tasks/given_answers.h"

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/json_text.h"
#include "tasks/json_records.h"
#include "text/text_file.h"

namespace cepe {
namespace {

using nlohmann::json;

// Parts, each after its length, so that no two lists of parts are the same bytes.
std::string parts_with_lengths(const std::vector<std::string_view>& parts) {
  std::string bytes;
  for (const std::string_view part : parts) {
    bytes += std::to_string(part.size()) + ":";
    bytes += part;
  }
  return bytes;
}

json input_record(const Example& example, PromptForm form) {
  const PromptText text = prompt_text(example.question, form);
  json documents = json::array();
  for (const ContextDocument& document : example.documents) {
    documents.push_back({{"name", document.name}, {"text", document.text}});
  }
  json record = {{"id", example.id},
                 {"input", input_hash(example, form, documents_hash(example))},
                 {"tags", example.tags},
                 {"references", example.references},
                 {"documents", documents},
                 {"form", prompt_form_name(form)},
                 {"question", example.question.question},
                 {"prompt", text.message},
                 {"answer_prefix", text.answer_prefix},
                 {"max_tokens", example.max_tokens},
                 {"stop", answer_stops(example, form)},
                 {"leading_space", example.drop_leading_space ? "dropped" : "kept"}};
  if (!example.options.empty()) record["options"] = example.options;
  return record;
}

// The number of a member that may be missing; Error where it is no number from 0 to 1e18, which every integer
// type of 64 bits holds.
double number_of(const json& record, const char* name, const std::string& where) {
  const auto member = record.find(name);
  if (member == record.end()) return 0;
  require(member->is_number() && member->get<double>() >= 0 && member->get<double>() <= 1e18,
          "{}: expected \"{}\" to be a number from 0 to 1e18, found {}", where, name, member->dump());
  return member->get<double>();
}

std::optional<std::string> input_of(const json& record, const std::string& where) {
  const auto member = record.find("input");
  if (member == record.end()) return std::nullopt;
  require(member->is_string(), "{}: expected \"input\" to be a string, found {}", where, member->dump());
  return member->get<std::string>();
}

}  // namespace

std::string documents_hash(const Example& example) {
  std::vector<std::string_view> parts;
  for (const ContextDocument& document : example.documents) {
    parts.push_back(document.name);
    parts.push_back(document.text);
  }
  return sha256_bytes(parts_with_lengths(parts));
}

std::string input_hash(const Example& example, PromptForm form, const std::string& documents) {
  const PromptText text = prompt_text(example.question, form);
  std::vector<std::string_view> parts = {documents, text.message, text.answer_prefix};
  parts.insert(parts.end(), example.options.begin(), example.options.end());
  return sha256_bytes(parts_with_lengths(parts));
}

std::vector<std::string> answer_stops(const Example& example, PromptForm form) {
  std::vector<std::string> stops = example.stop;
  const bool goes_on = stops.empty() || example.drop_leading_space;
  if (goes_on && form == PromptForm::question) stops.emplace_back("\nQuestion:");
  return stops;
}

void write_example_inputs(std::span<const Task> tasks, PromptForm form, const std::filesystem::path& file) {
  AtomicFile out(file);
  for (const Task& task : tasks) {
    for (int64_t i = 0; i < task.examples; ++i) out.write(json_text(input_record(task.example(i), form)) + "\n");
  }
  out.commit();
}

GivenAnswers read_given_answers(const std::filesystem::path& file) {
  GivenAnswers answers{file.string(), {}};
  TextFile lines(file, TextNames::json);
  for (std::string line; lines.next_line(line);) {
    const json record = parse_json_text(line, lines.where());
    const bool whole =
        record.is_object() && record.value("id", json()).is_string() && record.value("text", json()).is_string();
    require(whole, "{}: expected an object with the strings \"id\" and \"text\", found {}", lines.where(),
            line.substr(0, 80));
    const GivenAnswer answer{record["text"].get<std::string>(), input_of(record, lines.where()),
                             number_of(record, "seconds", lines.where()),
                             static_cast<int64_t>(number_of(record, "peak_memory_bytes", lines.where()))};
    const std::string id = record["id"].get<std::string>();
    require(answers.by_id.emplace(id, answer).second, "{}: expected one answer to {}, found a second", lines.where(),
            id);
  }
  return answers;
}

GivenTotals check_given_answers(const GivenAnswers& answers, std::span<const Task> tasks, PromptForm form) {
  GivenTotals totals{.unmatched = std::ssize(answers.by_id)};
  for (const Task& task : tasks) {
    for (int64_t i = 0; i < task.examples; ++i) {
      const Example example = task.example(i);
      const auto answer = answers.by_id.find(example.id);
      require(answer != answers.by_id.end(), "{}: expected an answer to {}, found none", answers.file, example.id);
      require(example.options.empty(), "{}: {}: an option is to be chosen by likelihood, which no given answer says",
              answers.file, example.id);
      --totals.unmatched;
      totals.seconds += answer->second.seconds;
      totals.most_memory = std::max(totals.most_memory, answer->second.peak_memory);
      require(!answer->second.input || *answer->second.input == input_hash(example, form, documents_hash(example)),
              "{}: {}: expected an answer to what the example reads, found one to another input: "
              "the data, the form, the seed or another setting differs",
              answers.file, example.id);
    }
  }
  return totals;
}

}  // namespace cepe
