#include "tasks/long/long_files.h"

#include "base/error.h"
#include "tasks/json_records.h"
#include "tasks/long/benchmark_kinds.h"
#include "tasks/long/long_forms.h"
#include "text/text_file.h"

namespace cepe {
namespace {

using nlohmann::json;

std::string set_name(const std::filesystem::path& path, LongForm form) {
  std::string name = plain_file_name(path);
  for (const std::string_view ending : {".json", ".jsonl", ".ndjson"}) {
    if (name.size() > ending.size() && name.ends_with(ending)) name.resize(name.size() - ending.size());
  }
  // ZeroSCROLLS comes as gov_report/validation.jsonl.
  const bool part = name == "validation" || name == "test" || name == "train";
  const std::string folder = std::filesystem::absolute(path).lexically_normal().parent_path().filename().string();
  return form == LongForm::zeroscrolls && part ? folder + "/" + name : name;
}

class LongFile {
 public:
  LongFile(const std::filesystem::path& path, LongForm form, LongMetric metric)
      : path_(path), form_(form), metric_(metric) {}

  LongTexts read() {
    if (has_object_lines(path_)) {
      read_lines();
    } else {
      read_value();
    }
    LongTexts texts{set_ ? set_->finish() : std::vector<LongSet>{}, std::move(faults_)};
    require(!texts.sets.empty(), "{}: expected questions about long texts, found none{}", path_.string(),
            texts.faults.empty() ? "" : ": " + texts.faults.front());
    return texts;
  }

 private:
  void read_lines() {
    TextFile file(path_, TextNames::json);
    for (std::string line; file.next_line(line);) {
      const std::string where = file.where();
      guarded([&] { take(parse_json_text(line, where), {where, "line " + where.substr(where.rfind(':') + 1)}); });
    }
  }

  void read_value() {
    const std::string name = path_.string();
    const json value = parse_json_text(TextFile(path_, TextNames::json).rest(), name);
    if (value.is_array()) {
      for (size_t i = 0; i < value.size(); ++i) {
        guarded([&] { take(value[i], {fmt::format("{}: [{}]", name, i), fmt::format("[{}]", i)}); });
      }
      return;
    }
    require(value.is_object(), "{}: expected a JSON array or object, found a JSON {}", name, value.type_name());
    // Qasper's files are one object with a paper under each id.
    const bool papers = !value.empty() && value.begin()->is_object() && value.begin()->contains("full_text");
    if (!papers) return guarded([&] { take(value, {name, "record"}); });
    for (const auto& [id, paper] : value.items()) {
      guarded([&, &id = id, &paper = paper] { take(paper, {fmt::format("{}: \"{}\"", name, id), id}); });
    }
  }

  // The first record whose form is known says which form all have, where none was named.
  void take(const json& record, const RecordPlace& place) {
    if (form_ == LongForm::automatic) form_ = long_form_of(record, place.where);
    if (!set_) set_.emplace(form_, metric_);
    read_long_record({form_, record, place, set_name(path_, form_)}, *set_, faults_);
  }

  template <typename Work>
  void guarded(const Work& work) {
    try {
      work();
    } catch (const Error& error) {
      faults_.emplace_back(error.what());
    }
  }

  const std::filesystem::path& path_;
  LongForm form_;
  LongMetric metric_;
  std::optional<LongSetBuilder> set_;
  std::vector<std::string> faults_;
};

}  // namespace

LongTexts read_long_texts(const std::filesystem::path& path, LongForm form, LongMetric metric) {
  return LongFile(path, form, metric).read();
}

}  // namespace cepe
