// Needles: values told of keys in like sentences, asked for by key. RULER's wording (niah, arXiv 2404.06654) is one of
// many.
#include <algorithm>
#include <set>

#include "ask/kinds/draft.h"
#include "ask/sources/sentences.h"
#include "base/error.h"

namespace cepe {
namespace {

// {e} the key, {v} the value, {r} what the value is called, {rs} several of them.
constexpr const char* kStatements[] = {
    "One of the {rs} for {e} is: {v}.",
    "One of the {rs} for {e} is: {v}.",
    "The {r} for {e} is {v}.",
    "The {r} for {e} is: {v}",
    "A {r} of {e} is {v}.",
    "{e} has the {r} {v}.",
    "{e} has {v} as a {r}.",
    "Remember: {v} is a {r} for {e}.",
    "Keep in mind that the {r} for {e} is {v}.",
    "{r} ({e}): {v}",
    "{e}: {r} {v}.",
    "For {e}, use the {r} {v}.",
    "Among the {rs} for {e} there is {v}.",
    "If anyone asks about {e}, the {r} is {v}.",
    "{v} is one of the {rs} for {e}.",
    "The {r} {v} was given to {e}.",
    "{e} = {v}",
    "{e} -> {v}",
    "Do not forget the {r} for {e}: {v}.",
    "We assigned {v} to {e} as its {r}.",
    "[{r}] {e}: {v}",
    "By {e} they mean the {r} {v}.",
};
constexpr const char* kOneQuestions[] = {
    "What is the {r} for {e} mentioned in the provided text?",
    "What is the {r} for {e}?",
    "What is the {r} for {e}?",
    "Which {r} belongs to {e}?",
    "Give the {r} for {e}.",
    "Find the {r} for {e} in the text.",
    "{e}: which {r}?",
    "The text mentions a {r} for {e}. What is it?",
    "Do you remember the {r} for {e}?",
};
constexpr const char* kManyQuestions[] = {
    "What are all the {rs} for {e} mentioned in the provided text?",
    "What are all the {rs} for {e}?",
    "What are the {rs} for {e}?",
    "List the {rs} for {e}.",
    "Which {rs} belong to {e}?",
    "Name every {r} of {e} that the text gives.",
};
constexpr const char* kAdjectives[] = {"special magic", "special magic", "magic",  "secret", "lucky",  "hidden",
                                       "special",       "private",       "unique", "test",   "second", "personal"};
constexpr const char* kNumberNouns[] = {"number", "number", "number", "code", "key", "value", "figure"};
constexpr const char* kWordNouns[] = {"word", "word", "name", "term"};
constexpr const char* kUuidNouns[] = {"uuid", "uuid", "id", "identifier", "key"};

enum class Kind { numbers, words, uuids, codes };
enum class Ask { one, values, keys };

std::string replaced(std::string text, const std::string& tag, const std::string& by) {
  for (size_t at = text.find(tag); at != std::string::npos; at = text.find(tag, at + by.size())) {
    text.replace(at, tag.size(), by);
  }
  return text;
}

struct Needle {
  std::string key;
  std::vector<std::string> values;
};

struct Stated {
  std::string text, value;
  size_t needle;  // its place
};

class NeedleMaker {
 public:
  NeedleMaker(const AskSources& sources, AskRequest& request)
      : sources_(sources), request_(request), random_(request.random) {}

  AskDraft make() {
    choose();
    const int64_t each = cost();
    const bool nothing_else = random_.chance(0.3);  // the whole context is of such sentences
    const int64_t most = std::max<int64_t>(request_.tokens() * (nothing_else ? 9 : 4) / 10 / each, 1);
    const int64_t least = std::min<int64_t>(most, ask_ == Ask::one ? 1 : 4);
    const int64_t count =
        nothing_else ? most : random_.log_between(least, std::max(least, std::min<int64_t>(most, 60)));
    std::vector<Stated> stated = draw_needles(count);
    AskDraft draft;
    if (!nothing_else) draft.documents = draw_haystack(sources_, request_, request_.tokens() - count * each);
    // Statements are hidden in this order, and a key's values are asked for in it.
    random_.shuffle(stated);
    std::vector<std::string> statements;
    for (Stated& one : stated) {
      statements.push_back(std::move(one.text));
      needles_[one.needle].values.push_back(std::move(one.value));
    }
    hide_statements(draft.documents, statements, random_);
    ask(draft);
    return draft;
  }

 private:
  void choose() {
    value_ = static_cast<Kind>(random_.weighted({0.5, 0.12, 0.28, 0.1}));
    key_ = static_cast<Kind>(random_.weighted({0.1, 0.65, 0.2, 0.05}));
    ask_ = static_cast<Ask>(random_.weighted({0.55, 0.25, 0.2}));
    const std::string adjective = random_.pick(kAdjectives);
    const std::string noun = value_ == Kind::words   ? random_.pick(kWordNouns)
                             : value_ == Kind::uuids ? random_.pick(kUuidNouns)
                                                     : random_.pick(kNumberNouns);
    noun_ = adjective + " " + noun;
    statement_ = random_.chance(0.7) ? random_.pick(kStatements) : "";
    digits_ = random_.chance(0.5) ? 7 : random_.between(1, 10);
  }

  int64_t cost() {
    const int64_t key = key_ == Kind::uuids ? 26 : 7, value = value_ == Kind::uuids   ? 26
                                                              : value_ == Kind::words ? 5
                                                                                      : 8;
    return key + value + 10;
  }

  std::string draw(Kind kind, bool key) {
    switch (kind) {
      case Kind::words: {
        const bool pair = key || random_.chance(0.5);
        return sources_.words.draw("adjective", random_) + (pair ? "-" + sources_.words.draw("noun", random_) : "");
      }
      case Kind::uuids: return draw_uuid(random_);
      case Kind::codes: return sources_.words.draw("code", random_);
      case Kind::numbers: break;
    }
    std::string number;
    for (int64_t i = 0; i < digits_; ++i) number += static_cast<char>('0' + random_.between(i == 0 && digits_ > 1, 9));
    return number;
  }

  std::string fill(std::string text, const std::string& key, const std::string& value) const {
    text = replaced(replaced(std::move(text), "{rs}", noun_ + "s"), "{r}", noun_);
    return replaced(replaced(std::move(text), "{e}", key), "{v}", value);
  }

  // Statements of all keys; their values are given to the keys by the caller.
  std::vector<Stated> draw_needles(int64_t count) {
    std::vector<Stated> stated;
    std::set<std::string> seen;
    const int64_t most = ask_ == Ask::values ? random_.between(2, 5) : 1;
    while (static_cast<int64_t>(stated.size()) < count) {
      std::string key = draw(key_, true);
      if (key.size() < 3) key += "-" + draw(Kind::words, true);
      if (seen.contains(key)) key += "-" + std::to_string(seen.size());
      std::set<std::string> values;
      for (int64_t v = 0; v < most; ++v) values.insert(draw(value_, false));
      if (static_cast<int64_t>(values.size()) < most) {
        digits_ = std::max<int64_t>(digits_, 3);
        continue;
      }
      if (!seen.insert(key).second) continue;
      for (const std::string& value : values) {
        const std::string form = statement_.empty() ? random_.pick(kStatements) : statement_;
        stated.push_back({fill(form, key, value), value, needles_.size()});
      }
      needles_.push_back({std::move(key), {}});
    }
    return stated;
  }

  void ask(AskDraft& draft) {
    random_.shuffle(needles_);
    const bool ruler = random_.chance(0.15);
    if (ask_ != Ask::keys) {
      for (const Needle& needle : needles_) add_turn(draft, needle.key, needle.values, ruler);
      return;
    }
    const bool named = random_.chance(0.25);
    for (size_t i = 0; i < needles_.size();) {
      const auto count = std::min<size_t>(static_cast<size_t>(random_.between(2, 5)), needles_.size() - i);
      std::vector<std::string> keys, values;
      for (size_t k = i; k < i + count; ++k) {
        keys.push_back(needles_[k].key);
        values.push_back((named && count > 1 && !ruler ? needles_[k].key + ": " : "") + needles_[k].values[0]);
      }
      // RULER writes "a, and b" of two as well.
      const bool comma = count > 2 || (ruler && draft.turns.empty());
      add_turn(draft, join_list(keys, comma ? ", and" : "and"), values, ruler);
      i += count;
    }
  }

  void add_turn(AskDraft& draft, const std::string& key, const std::vector<std::string>& values, bool ruler) {
    const bool one = values.size() == 1;
    AskTurn turn;
    turn.question = fill(one ? random_.pick(kOneQuestions) : random_.pick(kManyQuestions), key, "");
    turn.answer = join_list(values, random_.chance(0.3) ? "and" : "");
    if (ruler && draft.turns.empty()) {  // the task's own wording, of the first question alone
      const std::string noun = one ? noun_ : noun_ + "s";
      turn.question =
          fmt::format("What {} the {} for {} mentioned in the provided text?", one ? "is" : "are all", noun, key);
      turn.wording = fmt::format(
          "{} {} {} hidden within the following text. Make sure to memorize it. I will quiz you about the {} "
          "afterwards.\n\n{}",
          one ? "A" : "Some", noun, one ? "is" : "are", noun.substr(noun.rfind(' ') + 1), turn.question);
      turn.answer_prefix =
          fmt::format(" The {} for {} mentioned in the provided text {}", noun, key, one ? "is" : "are");
    }
    draft.turns.push_back(std::move(turn));
  }

  const AskSources& sources_;
  AskRequest& request_;
  AskRandom& random_;
  Kind key_ = Kind::words, value_ = Kind::numbers;
  Ask ask_ = Ask::one;
  std::string noun_, statement_;
  int64_t digits_ = 7;
  std::vector<Needle> needles_;
};

}  // namespace

AskDraft make_needles(const AskSources& sources, AskRequest& request) { return NeedleMaker(sources, request).make(); }

}  // namespace cepe
