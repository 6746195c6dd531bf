#include "generate/records/prompt_records.h"

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "base/nearest.h"
#include "generate/stop_filter.h"
#include "text/text_file.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const std::vector<std::string> kKeys = {"prompt",      "id",    "context", "context_text", "system",
                                        "max_tokens",  "top_k", "top_p",   "min_p",        "repetition_penalty",
                                        "temperature", "seed",  "stop"};

// The values of one record by their names; an Error of it names the line and the key.
class Fields {
 public:
  Fields(const json& record, const std::string& where) : record_(record), where_(where) {
    require(record.is_object(), "{}: expected an object with \"prompt\", found {}", where, record.type_name());
    for (const auto& [key, value] : record.items()) {
      const bool known = std::find(kKeys.begin(), kKeys.end(), key) != kKeys.end();
      require(known, "{}: unknown key \"{}\"{}", where, key, did_you_mean(key, kKeys));
    }
  }

  // Each sets the variable where the record has the key, and says whether it has.
  bool read(const char* name, std::string& text) const {
    const json* value = find(name);
    if (value == nullptr) return false;
    expect(value->is_string(), name, "a text", *value);
    text = value->get<std::string>();
    return true;
  }
  bool read(const char* name, std::vector<std::string>& texts) const {
    const json* value = find(name);
    if (value == nullptr) return false;
    const bool list = value->is_array() &&
                      std::all_of(value->begin(), value->end(), [](const json& item) { return item.is_string(); });
    expect(list || value->is_string(), name, "a text or a list of texts", *value);
    texts = list ? value->get<std::vector<std::string>>() : std::vector<std::string>{value->get<std::string>()};
    return true;
  }
  bool read(const char* name, double& number) const {
    const json* value = find(name);
    if (value == nullptr) return false;
    expect(value->is_number(), name, "a number", *value);
    number = value->get<double>();
    return true;
  }
  bool read(const char* name, uint64_t& number) const {
    const json* value = find(name);
    if (value == nullptr) return false;
    expect(value->is_number_unsigned(), name, "a whole number, 0 or more", *value);
    number = value->get<uint64_t>();
    return true;
  }
  bool read(const char* name, int64_t& number) const {
    uint64_t count = 0;
    if (!read(name, count)) return false;
    expect(count <= uint64_t{std::numeric_limits<int64_t>::max()}, name, "a smaller number", count);
    number = static_cast<int64_t>(count);
    return true;
  }

 private:
  const json* find(const char* name) const {
    const auto found = record_.find(name);
    return found == record_.end() || found->is_null() ? nullptr : &*found;
  }
  void expect(bool fits, const char* name, const char* what, const json& value) const {
    constexpr size_t kShown = 60;
    if (fits) return;
    const std::string text = value.dump(-1, ' ', true);
    fail("{}: {}: expected {}, found {}", where_, name, what, text.size() > kShown ? value.type_name() : text);
  }
  const json& record_;
  const std::string& where_;
};

json parse_line(const std::string& line, const std::string& where) {
  // Deeper values would be copied and written by recursion without an end.
  constexpr int kDepth = 100;
  const auto shallow = [&](int depth, json::parse_event_t, json&) {
    require(depth <= kDepth, "{}: values are nested more than {} deep", where, kDepth);
    return true;
  };
  try {
    return json::parse(line, shallow);
  } catch (const json::parse_error& error) {
    fail("{}: not valid JSON in UTF-8: it breaks off or goes wrong at byte {}", where, error.byte);
  } catch (const json::out_of_range&) {
    fail("{}: holds a number beyond the range of a double", where);
  }
}

}  // namespace

PromptRecord parse_prompt_record(const std::string& line, const std::string& where, const PromptDefaults& defaults) {
  const json object = parse_line(line, where);
  const Fields fields(object, where);
  PromptRecord record{.where = where,
                      .system = defaults.system,
                      .max_tokens = defaults.max_tokens,
                      .sampling = defaults.sampling,
                      .stop = defaults.stop};
  if (const auto id = object.find("id"); id != object.end()) record.id = *id;
  require(fields.read("prompt", record.prompt) && !record.prompt.empty(), "{}: expected a \"prompt\" with some text",
          where);
  std::string system;
  if (fields.read("system", system)) record.system = system;
  const bool files = fields.read("context", record.context), texts = fields.read("context_text", record.context_text);
  if (!files && !texts) record.context = defaults.context;
  fields.read("max_tokens", record.max_tokens);
  require(record.max_tokens > 0, "{}: max_tokens: expected 1 or more, found {}", where, record.max_tokens);
  fields.read("stop", record.stop);

  SamplerOptions& sampling = record.sampling;
  const bool top_k = fields.read("top_k", sampling.top_k), top_p = fields.read("top_p", sampling.top_p),
             min_p = fields.read("min_p", sampling.min_p);
  const bool temperature = fields.read("temperature", sampling.temperature) || defaults.temperature_given;
  if (!temperature && (top_k || top_p || min_p)) sampling.temperature = 1;
  fields.read("repetition_penalty", sampling.repetition_penalty);
  fields.read("seed", sampling.seed);
  try {
    check_sampler_options(sampling);
    static_cast<void>(StopFilter(record.stop));
  } catch (const Error& error) {
    fail("{}: {}", where, error.what());
  }
  return record;
}

std::vector<PromptRecord> read_prompt_records(const fs::path& path, const PromptDefaults& defaults) {
  require(is_json_lines(path), "{}: expected a file of records, named .jsonl or .jsonl.zst", path.string());
  TextFile file(path);
  std::vector<PromptRecord> records;
  std::string line;
  while (file.next_line(line)) {
    records.push_back(parse_prompt_record(line, file.where(), defaults));
    for (const std::string& name : records.back().context) {
      std::error_code error;
      require(fs::exists(name, error), "{}: context: there is no file {}", file.where(), name);
    }
  }
  require(!records.empty(), "{}: holds no prompts", path.string());
  return records;
}

}  // namespace cepe
