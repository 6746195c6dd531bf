// Needles: sentences "One of the special magic numbers for KEY is: VALUE." in a text, and values asked for by key.
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "tasks/recall_kinds.h"

namespace cepe {
namespace {

enum class Haystack { noise, essays, needles };
enum class Kind { words, numbers, uuids };

struct NeedleTask {
  const char* name;
  Haystack haystack;
  Kind key, value;
  int64_t keys, values, queries;  // keys that are hidden, values of each, keys that are asked for
  bool at_depths;
};

// RULER's synthetic.yaml; the last is niah_single_2 at chosen depths.
constexpr NeedleTask kTasks[] = {
    {"niah_single_1", Haystack::noise, Kind::words, Kind::numbers, 1, 1, 1, false},
    {"niah_single_2", Haystack::essays, Kind::words, Kind::numbers, 1, 1, 1, false},
    {"niah_single_3", Haystack::essays, Kind::words, Kind::uuids, 1, 1, 1, false},
    {"niah_multikey_1", Haystack::essays, Kind::words, Kind::numbers, 4, 1, 1, false},
    {"niah_multikey_2", Haystack::needles, Kind::words, Kind::numbers, 1, 1, 1, false},
    {"niah_multikey_3", Haystack::needles, Kind::uuids, Kind::uuids, 1, 1, 1, false},
    {"niah_multivalue", Haystack::essays, Kind::words, Kind::numbers, 1, 4, 1, false},
    {"niah_multiquery", Haystack::essays, Kind::words, Kind::numbers, 4, 1, 4, false},
    {"needle", Haystack::essays, Kind::words, Kind::numbers, 1, 1, 1, true},
};
constexpr int64_t kAnswerTokens = 128;  // RULER's tokens_to_generate
constexpr const char* kNoise =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";

enum Purpose : uint64_t { kKeys, kValues, kPlaces, kAsked, kHaystack };

// A random UUID of version 4 (RFC 9562, section 5.4).
std::string draw_uuid(KeyedRandom& random) {
  const uint64_t high = (random.next() & ~uint64_t{0xF000}) | 0x4000;
  const uint64_t low = (random.next() >> 2) | (uint64_t{2} << 62);
  return fmt::format("{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", high >> 32, (high >> 16) & 0xFFFF, high & 0xFFFF, low >> 48,
                     low & 0xFFFFFFFFFFFF);
}

std::string draw(Kind kind, const RecallData& data, KeyedRandom& random) {
  const auto any = [&](const std::vector<std::string>& words) {
    return words[static_cast<size_t>(random.below(static_cast<int64_t>(words.size())))];
  };
  switch (kind) {
    case Kind::words: {
      const std::string adjective = any(data.adjectives);
      return adjective + "-" + any(data.nouns);
    }
    case Kind::numbers: return std::to_string(1'000'000 + random.below(9'000'000));
    case Kind::uuids: return draw_uuid(random);
  }
  return {};
}

std::string needle(const NeedleTask& task, const std::string& key, const std::string& value) {
  return fmt::format("One of the special magic {} for {} is: {}.", task.value == Kind::uuids ? "uuids" : "numbers", key,
                     value);
}

// The needles among the sentences of the first `units` words of the essays, which begin again at their end.
std::vector<std::string> hide_in_essays(const Essays& essays, int64_t units, const std::vector<std::string>& needles,
                                        const std::vector<double>& depths) {
  std::vector<std::string> sentences;
  std::string sentence;
  for (int64_t i = 0; i < units; ++i) {
    const size_t word = static_cast<size_t>(i) % essays.words.size();
    sentence += essays.words[word] + " ";
    if (essays.ends[word] || i + 1 == units) sentences.push_back(std::exchange(sentence, {}));
  }
  std::vector<std::string> pieces;
  size_t next = 0;
  for (size_t n = 0; n < needles.size(); ++n) {
    const auto place = static_cast<size_t>(depths[n] / 100 * static_cast<double>(sentences.size()));
    for (; next < place; ++next) pieces.push_back(std::move(sentences[next]));
    pieces.push_back(needles[n] + " ");
  }
  for (; next < sentences.size(); ++next) pieces.push_back(std::move(sentences[next]));
  pieces.back().pop_back();  // the space at the end
  return pieces;
}

// The needles among `units` lines.
std::vector<std::string> hide_in_lines(const NeedleTask& task, const RecallData& data, const RecallKey& key,
                                       int64_t units, const std::vector<std::string>& needles) {
  std::vector<std::string> lines;
  KeyedRandom random = key.random(kHaystack);
  for (int64_t i = 0; i < units; ++i) {
    if (task.haystack == Haystack::noise) {
      lines.emplace_back(kNoise);
    } else {
      const std::string other = draw(task.key, data, random);
      lines.push_back(needle(task, other, draw(task.value, data, random)));
    }
  }
  std::vector<int64_t> places = draw_distinct(key.random(kPlaces), static_cast<int64_t>(needles.size()), units);
  std::sort(places.rbegin(), places.rend());
  for (size_t n = 0; n < needles.size(); ++n) lines.insert(lines.begin() + places[n], needles[n]);
  for (size_t i = 0; i + 1 < lines.size(); ++i) lines[i] += "\n";
  return lines;
}

// Depths in percent, ascending: the chosen one, or distinct ones of 40 that are as far apart, as RULER draws them.
std::vector<double> needle_depths(const RecallKey& key, size_t needles) {
  if (key.depth >= 0) return std::vector<double>(needles, static_cast<double>(key.depth));
  std::vector<double> depths;
  for (const int64_t place : draw_distinct(key.random(kPlaces), static_cast<int64_t>(needles), 40)) {
    depths.push_back(std::round(100.0 * static_cast<double>(place) / 39));
  }
  std::sort(depths.begin(), depths.end());
  return depths;
}

std::string joined(const std::vector<std::string>& keys) {
  std::string text;
  for (size_t i = 0; i < keys.size(); ++i) text += (i == 0 ? "" : i + 1 < keys.size() ? ", " : ", and ") + keys[i];
  return text;
}

void ask(const NeedleTask& task, const std::vector<std::string>& asked, RecallText& text) {
  const bool one = task.queries * task.values == 1;
  const std::string kind = std::string(task.value == Kind::uuids ? "uuid" : "number") + (one ? "" : "s");
  const std::string query = joined(asked);
  text.before = fmt::format(
      "{} special magic {} {} hidden within the following text. Make sure to memorize it. I will quiz you about the {} "
      "afterwards.\n",
      one ? "A" : "Some", kind, one ? "is" : "are", kind);
  text.question = fmt::format("What {} the special magic {} for {} mentioned in the provided text?",
                              one ? "is" : "are all", kind, query);
  text.after = "\n" + text.question;
  text.answer_prefix =
      fmt::format(" The special magic {} for {} mentioned in the provided text {}", kind, query, one ? "is" : "are");
}

RecallText make_needles(const NeedleTask& task, const RecallData& data, const RecallKey& key, int64_t units) {
  KeyedRandom key_draws = key.random(kKeys), value_draws = key.random(kValues);
  std::vector<std::string> keys, needles;
  std::vector<std::vector<std::string>> values;
  while (static_cast<int64_t>(keys.size()) < task.keys) {
    std::string next = draw(task.key, data, key_draws);
    if (std::find(keys.begin(), keys.end(), next) != keys.end()) continue;
    keys.push_back(std::move(next));
    values.emplace_back();
    for (int64_t v = 0; v < task.values; ++v) {
      values.back().push_back(draw(task.value, data, value_draws));
      needles.push_back(needle(task, keys.back(), values.back().back()));
    }
  }
  shuffle(needles, key.random(kHaystack + 1));

  RecallText text;
  text.pieces = task.haystack == Haystack::essays
                    ? hide_in_essays(data.essays, units, needles, needle_depths(key, needles.size()))
                    : hide_in_lines(task, data, key, units, needles);
  std::vector<std::string> asked;
  for (const int64_t k : draw_distinct(key.random(kAsked), task.queries, task.keys)) {
    asked.push_back(keys[static_cast<size_t>(k)]);
    for (const std::string& value : values[static_cast<size_t>(k)]) text.references.push_back(value);
  }
  ask(task, asked, text);
  return text;
}

// A value by its key in a JSON object of `units` pairs of UUIDs, in the wording of "Lost in the middle".
RecallText make_pairs(const RecallKey& key, int64_t units) {
  KeyedRandom random = key.random(kHaystack);
  const auto asked =
      static_cast<int64_t>(std::llround(static_cast<double>(key.depth) / 100 * static_cast<double>(units - 1)));
  RecallText text;
  std::string name;
  for (int64_t i = 0; i < units; ++i) {
    const std::string pair = draw_uuid(random), value = draw_uuid(random);
    text.pieces.push_back(
        fmt::format("{}\"{}\": \"{}\"{}", i == 0 ? "{" : " ", pair, value, i + 1 < units ? ",\n" : "}"));
    if (i == asked) name = pair, text.references = {value};
  }
  text.before = "Extract the value corresponding to the specified key in the JSON object below.\n\nJSON data:\n";
  text.after = fmt::format("\n\nKey: \"{}\"", name);
  text.question = fmt::format("What is the value of the key \"{}\" in the JSON object?", name);
  text.answer_prefix = "\nCorresponding value:";
  return text;
}

}  // namespace

std::vector<RecallKind> needle_kinds(const std::shared_ptr<const RecallData>& data) {
  std::vector<RecallKind> kinds;
  for (const NeedleTask& task : kTasks) {
    RecallKind kind{.name = task.name, .max_tokens = kAnswerTokens, .at_depths = task.at_depths};
    // Fewer pairs than keys would never be distinct.
    const bool words = task.key == Kind::words && data->adjectives.size() * data->nouns.size() < 4;
    const bool essays = task.haystack == Haystack::essays && data->essays.words.empty();
    kind.missing = words && essays ? "word lists and essays" : words ? "word lists" : essays ? "essays" : "";
    kind.least_units = task.keys * task.values;
    kind.make = [data, task](const RecallKey& key, int64_t units) { return make_needles(task, *data, key, units); };
    kinds.push_back(std::move(kind));
  }
  kinds.push_back({.name = "kv", .max_tokens = 64, .at_depths = true, .make = make_pairs});
  return kinds;
}

}  // namespace cepe
