#include "tasks/long/long_tasks.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>
#include <set>

#include "base/error.h"
#include "base/random.h"
#include "tasks/name_number.h"

namespace cepe {
namespace {

enum Purpose : uint64_t { kOrder, kOther };
enum class Whose { own, other, none };

constexpr const char* kWhose[] = {"own", "other", "none"};

struct Setting {
  Placement placement = Placement::encoder;
  Whose whose = Whose::none;
};

std::string name_of(const Setting& setting) {
  if (setting.whose == Whose::none) return "no document";
  const std::string placement = placement_name(setting.placement);
  return setting.whose == Whose::own ? placement : placement + ", another's document";
}

std::string replaced(std::string text, std::string_view what, const std::string& by) {
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + by.size())) {
    text.replace(at, what.size(), by);
  }
  return text;
}

// A text that was cut between tokens: what is left of a character at the edge is dropped.
std::string whole_characters(std::string text) {
  constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
  while (text.ends_with(kReplacement)) text.resize(text.size() - kReplacement.size());
  size_t first = 0;
  while (std::string_view(text).substr(first).starts_with(kReplacement)) first += kReplacement.size();
  return text.substr(first);
}

const char* instruction_of(LongMetric metric, bool document) {
  switch (metric) {
    case LongMetric::rouge: return document ? "Read the following text." : "";
    case LongMetric::choice:
      return document
                 ? "Read the following text and choose the right answer to the question about it. Give only the answer."
                 : "Choose the right answer to the question. Give only the answer.";
    case LongMetric::number: return document ? "Read the following text and solve the problem." : "Solve the problem.";
    default:
      return document
                 ? "Read the following text and answer the question about it. Give only the answer, in a few words."
                 : "Answer the question. Give only the answer, in a few words.";
  }
}

// The questions of one set in all settings. Immutable once made: threads share it.
class LongSource {
 public:
  LongSource(std::shared_ptr<const LongSet> set, LongTaskOptions options)
      : set_(std::move(set)), options_(std::move(options)) {
    const auto prompt = options_.prompts.find(set_->name);
    if (prompt != options_.prompts.end()) prompt_ = prompt->second;
    add_settings();
    choose_questions();
  }

  int64_t examples() const { return static_cast<int64_t>(asked_.size() * settings_.size()); }
  // Question by question, so that the settings of one follow each other.
  Example example(int64_t index) const {
    const auto i = static_cast<size_t>(index);
    return make(set_->questions[asked_.at(i / settings_.size())], settings_[i % settings_.size()]);
  }
  std::vector<std::string> notes() const;

 private:
  void add_settings();
  void choose_questions();
  int64_t answer_tokens() const { return options_.max_tokens > 0 ? options_.max_tokens : set_->max_tokens; }
  bool reads_in_decoder() const {
    return std::any_of(settings_.begin(), settings_.end(), [](const Setting& setting) {
      return setting.whose != Whose::none && setting.placement != Placement::encoder;
    });
  }
  bool fits(const LongQuestion& question) const;
  size_t other_document(const LongQuestion& question) const;
  Question worded(const LongQuestion& question, const std::string& text, bool document) const;
  Example make(const LongQuestion& question, const Setting& setting) const;
  // The decoder's part of the document's tokens; false: it was cut.
  struct Read {
    std::string encoder, decoder;
    bool cut = false;
  };
  Read read(const LongQuestion& question, const LongDocument& document, Placement placement) const;
  Read read_in_decoder(const LongQuestion& question, std::span<const TokenId> tokens, const std::string& text) const;
  int64_t room(const LongQuestion& question) const {
    return options_.decoder_window - answer_tokens() - options_.count_tokens(worded(question, "", true));
  }

  std::shared_ptr<const LongSet> set_;
  LongTaskOptions options_;
  std::string prompt_;
  std::vector<Setting> settings_;
  std::vector<size_t> asked_;  // questions, in their order
  int64_t too_long_ = 0, several_right_ = 0;
};

void LongSource::add_settings() {
  if (options_.no_document) settings_.push_back({});
  for (const Placement placement : options_.placements) {
    settings_.push_back({placement, Whose::own});
    if (options_.other_document && set_->documents.size() > 1) settings_.push_back({placement, Whose::other});
  }
}

// The decoder's part of a document needs some place as well.
bool LongSource::fits(const LongQuestion& question) const {
  constexpr int64_t kLeastRoom = 16;
  return room(question) >= (reads_in_decoder() ? kLeastRoom : 0);
}

void LongSource::choose_questions() {
  const KeyedRandom random{options_.seed, number_of_name(set_->name), kOrder};
  std::vector<size_t> order(set_->questions.size());
  std::iota(order.begin(), order.end(), size_t{0});
  KeyedRandom draws = random;
  for (size_t i = order.size(); i > 1; --i) {
    std::swap(order[i - 1], order[static_cast<size_t>(draws.below(static_cast<int64_t>(i)))]);
  }
  const size_t wanted = options_.questions > 0 ? static_cast<size_t>(options_.questions) : order.size();
  for (const size_t q : order) {
    if (asked_.size() == wanted) return;
    const LongQuestion& question = set_->questions[q];
    const bool single = std::any_of(question.references.begin(), question.references.end(), [&](const std::string& r) {
      return std::find(question.options.begin(), question.options.end(), r) != question.options.end();
    });
    if (set_->metric == LongMetric::choice && options_.likelihood && !single) {
      ++several_right_;
    } else if (!fits(question)) {
      ++too_long_;
    } else {
      asked_.push_back(q);
    }
  }
}

std::vector<std::string> LongSource::notes() const {
  std::vector<std::string> notes;
  const auto note = [&](int64_t count, const std::string& why) {
    if (count > 0) notes.push_back(fmt::format("{}: questions left out, which {}: {}", set_->name, why, count));
  };
  note(several_right_, "have several right options, of which the likeliest one is no answer");
  note(too_long_, fmt::format("do not fit in the decoder's window of {} tokens", options_.decoder_window));
  if (options_.other_document && set_->documents.size() < 2) {
    notes.push_back(fmt::format("{}: there is one document alone: no control with another's", set_->name));
  }
  return notes;
}

size_t LongSource::other_document(const LongQuestion& question) const {
  KeyedRandom random{options_.seed, number_of_name(set_->name), number_of_name(question.id), kOther};
  const auto drawn = static_cast<size_t>(random.below(static_cast<int64_t>(set_->documents.size()) - 1));
  return drawn < question.document ? drawn : drawn + 1;
}

Question LongSource::worded(const LongQuestion& question, const std::string& text, bool document) const {
  Question made{.before = question.before,
                .text = text,
                .after = question.after,
                .question = question.question,
                .answer_prefix = ""};
  if (!prompt_.empty()) {
    const size_t at = prompt_.find("{context}");
    made.before = replaced(prompt_.substr(0, at), "{input}", question.question);
    made.after = replaced(prompt_.substr(at + 9), "{input}", question.question);
  } else if (question.before.empty() && question.after.empty()) {
    made.before = instruction_of(set_->metric, document);
    if (!made.before.empty()) made.before += "\n\n";
    const bool summary = set_->metric == LongMetric::rouge;
    made.after =
        fmt::format("{}{}{}\nAnswer:", text.empty() ? "" : "\n\n", summary ? "" : "Question: ", question.question);
  }
  return made;
}

LongSource::Read LongSource::read_in_decoder(const LongQuestion& question, std::span<const TokenId> tokens,
                                             const std::string& text) const {
  const int64_t window = options_.decoder_window - answer_tokens();
  if (std::ssize(tokens) < window && options_.count_tokens(worded(question, text, true)) <= window) return {"", text};
  // The text of the two halves may have other tokens where they meet: what is too long is shortened.
  for (int64_t count = std::min<int64_t>(std::ssize(tokens), room(question)); count > 0;) {
    const std::vector<TokenId> kept = cut_in_the_middle(tokens, count);
    const auto half = static_cast<size_t>(count / 2);
    const std::string shown = whole_characters(options_.decode(std::span(kept).first(half))) +
                              whole_characters(options_.decode(std::span(kept).subspan(half)));
    const int64_t beyond = options_.count_tokens(worded(question, shown, true)) - window;
    if (beyond <= 0) return {"", shown, true};
    count -= beyond;
  }
  return {"", "", true};
}

LongSource::Read LongSource::read(const LongQuestion& question, const LongDocument& document,
                                  Placement placement) const {
  std::vector<TokenId> tokens = options_.encode(document.text);
  const bool cut = options_.length > 0 && std::ssize(tokens) > options_.length;
  std::string text = document.text;
  if (cut) {
    tokens = cut_in_the_middle(tokens, options_.length);
    const auto half = static_cast<size_t>(options_.length / 2);
    text = whole_characters(options_.decode(std::span(tokens).first(half))) +
           whole_characters(options_.decode(std::span(tokens).subspan(half)));
  }
  if (placement == Placement::encoder) return {text, "", cut};
  if (placement == Placement::decoder) {
    Read read = read_in_decoder(question, tokens, text);
    read.cut = read.cut || cut;
    return read;
  }
  const auto last = static_cast<size_t>(std::min<int64_t>(std::ssize(tokens), room(question)) / 2);
  const std::span<const TokenId> all(tokens);
  return {whole_characters(options_.decode(all.first(all.size() - last))),
          whole_characters(options_.decode(all.last(last))), cut};
}

Example LongSource::make(const LongQuestion& question, const Setting& setting) const {
  const size_t index = setting.whose == Whose::other ? other_document(question) : question.document;
  const LongDocument& document = set_->documents[index];
  Read read;
  if (setting.whose != Whose::none) read = this->read(question, document, setting.placement);
  Example example;
  example.id = fmt::format("{}/{}/{}", set_->name, question.id, name_of(setting));
  if (!read.encoder.empty()) example.documents = {{document.name, read.encoder}};
  example.question = worded(question, read.decoder, setting.whose != Whose::none);
  example.references = question.references;
  if (set_->metric == LongMetric::choice && options_.likelihood) example.options = question.options;
  example.max_tokens = answer_tokens();
  if (set_->first_line) example.stop = {"\n"};
  example.drop_leading_space = set_->first_line;
  example.cluster = fmt::format("document {}", question.document);
  int64_t tokens = std::ssize(options_.encode(set_->documents[question.document].text));
  if (options_.length > 0) tokens = std::min(tokens, options_.length);
  example.tags = {{"task", set_->name},
                  {"setting", name_of(setting)},
                  {"placement", setting.whose == Whose::none ? "none" : placement_name(setting.placement)},
                  {"document", kWhose[static_cast<size_t>(setting.whose)]},
                  {"length", std::to_string(std::bit_ceil(static_cast<uint64_t>(std::max<int64_t>(tokens, 1))))},
                  {"cut", read.cut ? "yes" : "no"}};
  return example;
}

void check_options(const LongTaskOptions& options) {
  require(options.count_tokens && options.encode && options.decode,
          "long texts: expected functions that count, encode and decode tokens, found none");
  require(!options.placements.empty(), "long texts: expected placements, found an empty list");
  require(options.length >= 0, "length: expected 1 or more tokens, or 0 for all, found {}", options.length);
  require(options.questions >= 0, "questions: expected 1 or more, or 0 for all, found {}", options.questions);
  require(options.max_tokens >= 0, "tokens of an answer: expected 1 or more, or 0, found {}", options.max_tokens);
  for (const auto& [name, prompt] : options.prompts) {
    const bool words =
        prompt.find("{context}") != std::string::npos && prompt.size() > std::string_view("{context}").size();
    require(words, "the prompt of {}: expected {{context}} and words beside it, found \"{}\"", name, prompt);
  }
}

// Prompts for no set, and sets without one where others were given theirs.
void note_idle_prompts(const std::vector<std::shared_ptr<const LongSet>>& sets, const LongTaskOptions& options,
                       std::vector<std::string>& notes) {
  constexpr size_t kNamed = 5;
  std::set<std::string> idle;
  for (const auto& [name, prompt] : options.prompts) idle.insert(name);
  std::string own;
  for (const std::shared_ptr<const LongSet>& set : sets) {
    if (options.prompts.contains(set->name)) {
      idle.erase(set->name);
    } else if (!options.prompts.empty()) {
      own += (own.empty() ? "" : ", ") + set->name;
    }
  }
  if (!own.empty()) notes.push_back(fmt::format("prompts: none is given for {}", own));
  if (idle.empty()) return;
  std::string names;
  size_t named = 0;
  for (const std::string& name : idle) {
    if (named++ == kNamed) break;
    names += (names.empty() ? "" : ", ") + name;
  }
  if (idle.size() > kNamed) names += fmt::format(" and {} more", idle.size() - kNamed);
  notes.push_back(fmt::format("prompts: no data set is called {}", names));
}

}  // namespace

std::vector<TokenId> cut_in_the_middle(std::span<const TokenId> tokens, int64_t count) {
  if (std::ssize(tokens) <= count) return {tokens.begin(), tokens.end()};
  const auto first = static_cast<size_t>(count / 2), last = static_cast<size_t>(count) - first;
  std::vector<TokenId> kept(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(first));
  const std::span<const TokenId> end = tokens.last(last);
  kept.insert(kept.end(), end.begin(), end.end());
  return kept;
}

LongTasks long_tasks(const std::vector<std::shared_ptr<const LongSet>>& sets, const LongTaskOptions& options) {
  check_options(options);
  LongTasks made;
  note_idle_prompts(sets, options, made.notes);
  std::set<std::string> names;
  for (const std::shared_ptr<const LongSet>& set : sets) {
    require(names.insert(set->name).second, "long texts: two sets are called {}", set->name);
    const auto source = std::make_shared<const LongSource>(set, options);
    const std::vector<std::string> notes = source->notes();
    made.notes.insert(made.notes.end(), notes.begin(), notes.end());
    if (source->examples() == 0) continue;
    made.tasks.push_back({set->name, source->examples(), [source](int64_t index) { return source->example(index); },
                          long_scorer({set->metric, options.stem, set->classes}), main_score_of(set->metric)});
  }
  require(!made.tasks.empty(), "long texts: no question is left{}{}", made.notes.empty() ? "" : ": ",
          made.notes.empty() ? "" : made.notes.front());
  return made;
}

}  // namespace cepe
