#include "tasks/recall.h"

#include <algorithm>
#include <deque>
#include <mutex>
#include <tuple>
#include <utility>

#include "base/error.h"
#include "tasks/fit.h"
#include "tasks/name_number.h"
#include "tasks/recall_kinds.h"

namespace cepe {
namespace {

// One example of a task.
struct Cell {
  RecallKey key;
  Placement placement;
};

Question question_of(const RecallText& made, std::string text) {
  return {made.before, std::move(text), made.after, made.question, made.answer_prefix};
}

std::string joined(const std::vector<std::string>& pieces, size_t begin, size_t end) {
  std::string text;
  for (size_t i = begin; i < end; ++i) text += pieces[i];
  return text;
}

// How many pieces the encoder reads. Split: the decoder reads the last `decoder_share` of the text, by its bytes.
size_t encoder_pieces(const RecallText& text, Placement placement, double decoder_share) {
  if (placement == Placement::encoder) return text.pieces.size();
  if (placement == Placement::decoder) return 0;
  size_t bytes = 0, before = 0, count = 0;
  for (const std::string& piece : text.pieces) bytes += piece.size();
  while (count < text.pieces.size() && static_cast<double>(before) < (1 - decoder_share) * static_cast<double>(bytes)) {
    before += text.pieces[count++].size();
  }
  return count;
}

int64_t answer_tokens(const RecallKind& kind, const RecallOptions& options) {
  return options.max_tokens > 0 ? options.max_tokens : kind.max_tokens;
}

// The kind's longest text that leaves room for the answer; -1 units where none fits.
int64_t fitting_units(const RecallKind& kind, const RecallKey& key, const RecallOptions& options) {
  const auto tokens = [&](int64_t units) {
    const RecallText text = kind.make(key, units);
    return options.count_tokens(question_of(text, joined(text.pieces, 0, text.pieces.size())));
  };
  return most_units_within(key.length - answer_tokens(kind, options), {kind.least_units, kind.most_units, tokens});
}

// The text of a key, and what the decoder reads beside it and its answer.
struct FittingText {
  RecallText text;
  int64_t beside = 0;  // tokens
};

FittingText fitting_text(const RecallKind& kind, const RecallKey& key, const RecallOptions& options) {
  const int64_t units = fitting_units(kind, key, options);
  require(units >= 0, "{}: example {} does not fit into {} tokens: a greater length is needed", kind.name, key.number,
          key.length);
  FittingText made{kind.make(key, units)};
  made.beside = options.count_tokens(question_of(made.text, "")) + answer_tokens(kind, options);
  return made;
}

// Fitting texts of one kind, each made once for all of its placements, which are asked for soon after each other.
// Thread-safe: who asks for a text that another thread is making waits for it.
class FittingTexts {
 public:
  std::shared_ptr<const FittingText> get(const RecallKey& key, const std::function<FittingText()>& make) {
    const std::shared_ptr<Entry> entry = entry_of(key);
    std::call_once(entry->once, [&] { entry->text = std::make_shared<const FittingText>(make()); });
    return entry->text;
  }

 private:
  struct Entry {
    std::once_flag once;
    std::shared_ptr<const FittingText> text;
  };
  using Name = std::tuple<int64_t, int64_t, int64_t>;

  std::shared_ptr<Entry> entry_of(const RecallKey& key) {
    constexpr size_t kKept = 16;
    const Name name{key.length, key.depth, key.number};
    const std::lock_guard lock(mutex_);
    for (const auto& [known, entry] : recent_) {
      if (known == name) return entry;
    }
    if (recent_.size() >= kKept) recent_.pop_front();
    return recent_.emplace_back(name, std::make_shared<Entry>()).second;
  }

  std::mutex mutex_;
  std::deque<std::pair<Name, std::shared_ptr<Entry>>> recent_;
};

Example make_example(const RecallKind& kind, const Cell& cell, const RecallOptions& options, FittingTexts& texts) {
  const RecallKey& key = cell.key;
  const auto fitting = texts.get(key, [&] { return fitting_text(kind, key, options); });
  const RecallText& text = fitting->text;
  const int64_t room = std::max<int64_t>(0, options.decoder_window - fitting->beside);
  const double share = std::min(0.5, 0.5 * static_cast<double>(room) / static_cast<double>(key.length));
  const size_t first = encoder_pieces(text, cell.placement, share), all = text.pieces.size();

  Example example;
  example.tags = {
      {"task", kind.name}, {"length", std::to_string(key.length)}, {"placement", placement_name(cell.placement)}};
  if (kind.at_depths) example.tags["depth"] = std::to_string(key.depth);
  example.id = fmt::format("{}/{}/{}{}/{}", kind.name, key.length, kind.at_depths ? fmt::format("{}/", key.depth) : "",
                           placement_name(cell.placement), key.number);
  if (first > 0) example.documents = {{"text", joined(text.pieces, 0, first)}};
  example.question = question_of(text, joined(text.pieces, first, all));
  example.references = text.references;
  example.max_tokens = answer_tokens(kind, options);
  // The same example in other places varies with this one; questions of one article vary together.
  example.cluster = text.cluster.empty() ? fmt::format("{}", key.number) : text.cluster;
  return example;
}

std::vector<RecallKind> all_kinds(const std::shared_ptr<const RecallData>& data, uint64_t seed) {
  std::vector<RecallKind> kinds;
  for (auto& made : {needle_kinds(data), word_kinds(data), question_kinds(data, seed)}) {
    kinds.insert(kinds.end(), made.begin(), made.end());
  }
  std::vector<RecallKind> sorted;
  for (const std::string& name : recall_task_names()) {
    sorted.push_back(*std::find_if(kinds.begin(), kinds.end(), [&](const RecallKind& k) { return k.name == name; }));
  }
  return sorted;
}

void check_options(const RecallOptions& options) {
  require(options.count_tokens != nullptr, "recall: expected a function that counts tokens, found none");
  require(!options.lengths.empty() && !options.depths.empty() && !options.placements.empty(),
          "recall: expected lengths, depths and placements, found an empty list");
  for (const int64_t length : options.lengths) {
    require(length >= 1, "lengths: expected 1 or more tokens, found {}", length);
  }
  for (const int64_t depth : options.depths) {
    require(depth >= 0 && depth <= 100, "depths: expected percent from 0 to 100, found {}", depth);
  }
  require(options.examples >= 1, "examples: expected 1 or more, found {}", options.examples);
  require(options.max_tokens >= 0, "tokens of an answer: expected 1 or more, or 0, found {}", options.max_tokens);
  for (const std::string& name : options.tasks) {
    const auto& names = recall_task_names();
    if (std::find(names.begin(), names.end(), name) != names.end()) continue;
    std::string known;
    for (const std::string& other : names) known += (known.empty() ? "" : ", ") + other;
    fail("there is no recall task \"{}\"; there are {}", name, known);
  }
}

// Whether the example's shortest text fits. Where all texts of a kind are about as long one is measured for all, and
// must take at most nine tenths of the length.
bool has_room(const RecallKind& kind, const RecallKey& key, const RecallOptions& options) {
  const RecallText text = kind.make(key, kind.least_units);
  const int64_t tokens = options.count_tokens(question_of(text, joined(text.pieces, 0, text.pieces.size())));
  const int64_t all = tokens + answer_tokens(kind, options);
  return kind.least_varies ? all <= key.length : 10 * all <= 9 * key.length;
}

std::string list_of(const std::vector<int64_t>& numbers) {
  std::string text;
  for (const int64_t number : numbers) text += fmt::format("{}{}", text.empty() ? "" : ", ", number);
  return text;
}

// The examples of a kind in their order, and a note for lengths that are too short.
std::vector<Cell> cells_of(const RecallKind& kind, const RecallOptions& options, std::vector<std::string>& notes) {
  std::vector<Cell> cells;
  std::vector<int64_t> too_short;
  const uint64_t task = number_of_name(kind.name);
  const std::vector<int64_t> depths = kind.at_depths ? options.depths : std::vector<int64_t>{-1};
  for (const int64_t length : options.lengths) {
    const auto fits = [&](int64_t number) {
      return has_room(kind, {options.seed, task, length, number, depths.front()}, options);
    };
    if (!kind.least_varies && !fits(0)) {
      too_short.push_back(length);
      continue;
    }
    std::vector<int64_t> numbers;
    for (int64_t number = 0; number < options.examples; ++number) {
      if (!kind.least_varies || fits(number)) numbers.push_back(number);
    }
    const int64_t left_out = options.examples - static_cast<int64_t>(numbers.size());
    if (left_out > 0) {
      notes.push_back(fmt::format("{}: {} of {} examples take more than {} tokens by themselves: left out", kind.name,
                                  left_out, options.examples, length));
    }
    for (const int64_t depth : depths) {
      for (const int64_t number : numbers) {
        for (const Placement placement : options.placements) {
          if (placement == Placement::decoder && length > options.decoder_window) continue;
          cells.push_back({{options.seed, task, length, number, depth}, placement});
        }
      }
    }
  }
  if (!too_short.empty()) {
    notes.push_back(
        fmt::format("{}: its shortest text and the answer take more than nine tenths of {} tokens: left out", kind.name,
                    list_of(too_short)));
  }
  return cells;
}

}  // namespace

const char* placement_name(Placement placement) {
  switch (placement) {
    case Placement::encoder: return "encoder";
    case Placement::decoder: return "decoder";
    case Placement::split: return "split";
  }
  return "";
}

Placement placement_from_name(std::string_view name, std::string_view option) {
  for (const Placement placement : {Placement::encoder, Placement::decoder, Placement::split}) {
    if (name == placement_name(placement)) return placement;
  }
  fail("{}: expected encoder, decoder or split, found \"{}\"", option, name);
}

const std::vector<std::string>& recall_task_names() {
  static const std::vector<std::string> names = {"niah_single_1",
                                                 "niah_single_2",
                                                 "niah_single_3",
                                                 "niah_multikey_1",
                                                 "niah_multikey_2",
                                                 "niah_multikey_3",
                                                 "niah_multivalue",
                                                 "niah_multiquery",
                                                 "vt",
                                                 "cwe",
                                                 "fwe",
                                                 "qa_1",
                                                 "qa_2",
                                                 "needle",
                                                 "kv"};
  return names;
}

RecallTasks recall_tasks(std::shared_ptr<const RecallData> data, const RecallOptions& options) {
  check_options(options);
  RecallTasks made;
  for (RecallKind& kind : all_kinds(data, options.seed)) {
    const bool asked = std::find(options.tasks.begin(), options.tasks.end(), kind.name) != options.tasks.end();
    if (!options.tasks.empty() && !asked) continue;
    if (!kind.missing.empty()) {
      require(!asked, "{}: the data has no {}", kind.name, kind.missing);
      made.notes.push_back(fmt::format("{}: the data has no {}: left out", kind.name, kind.missing));
      continue;
    }
    auto cells = std::make_shared<const std::vector<Cell>>(cells_of(kind, options, made.notes));
    if (cells->empty()) continue;
    const Scorer score = kind.any_reference ? match_any : match_all;
    const std::string name = kind.name;
    const auto texts = std::make_shared<FittingTexts>();
    made.tasks.push_back({name, static_cast<int64_t>(cells->size()),
                          [kind = std::move(kind), cells, options, texts](int64_t index) {
                            return make_example(kind, cells->at(static_cast<size_t>(index)), options, *texts);
                          },
                          score, "match"});
  }
  const bool decoder = std::count(options.placements.begin(), options.placements.end(), Placement::decoder) > 0;
  std::vector<int64_t> beyond;
  for (const int64_t length : options.lengths) {
    if (decoder && length > options.decoder_window) beyond.push_back(length);
  }
  if (!beyond.empty()) {
    made.notes.push_back(fmt::format("{} tokens exceed the decoder's window of {}: the placement decoder is left out",
                                     list_of(beyond), options.decoder_window));
  }
  require(!made.tasks.empty(), "recall: no task has an example{}{}", made.notes.empty() ? "" : ": ",
          made.notes.empty() ? "" : made.notes.front());
  return made;
}

}  // namespace cepe
