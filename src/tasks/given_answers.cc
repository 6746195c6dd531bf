#include "tasks/given_answers.h"

#include "base/error.h"
#include "base/file.h"
#include "base/json_text.h"
#include "tasks/json_records.h"
#include "text/text_file.h"

namespace cepe {
namespace {

using nlohmann::json;

json input_record(const Example& example, PromptForm form) {
  const PromptText text = prompt_text(example.question, form);
  json documents = json::array();
  for (const ContextDocument& document : example.documents) {
    documents.push_back({{"name", document.name}, {"text", document.text}});
  }
  json record = {{"id", example.id},
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

}  // namespace

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

std::map<std::string, GivenAnswer> read_given_answers(const std::filesystem::path& file) {
  std::map<std::string, GivenAnswer> answers;
  TextFile lines(file, TextNames::json);
  for (std::string line; lines.next_line(line);) {
    const json record = parse_json_text(line, lines.where());
    const bool whole =
        record.is_object() && record.value("id", json()).is_string() && record.value("text", json()).is_string();
    require(whole, "{}: expected an object with the strings \"id\" and \"text\", found {}", lines.where(),
            line.substr(0, 80));
    const GivenAnswer answer{record["text"].get<std::string>(), number_of(record, "seconds", lines.where()),
                             static_cast<int64_t>(number_of(record, "peak_memory_bytes", lines.where()))};
    const std::string id = record["id"].get<std::string>();
    require(answers.emplace(id, answer).second, "{}: expected one answer to {}, found a second", lines.where(), id);
  }
  return answers;
}

}  // namespace cepe
