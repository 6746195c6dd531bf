#include "tasks/questions/question_tasks.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "base/error.h"
#include "tasks/name_number.h"
#include "tasks/questions/question_scores.h"

namespace cepe {
namespace {

enum Purpose : uint64_t { kOrder, kArticle, kOthers, kPlace, kOther, kDemonstrations };

// 0 .. n-1 in a random order, drawn one by one until `enough` says so.
void draw_until(KeyedRandom random, size_t n, const std::function<bool(size_t)>& enough) {
  std::map<size_t, size_t> moved;  // of the shuffled numbers: those that are not in their own place
  const auto at = [&](size_t place) {
    const auto found = moved.find(place);
    return found == moved.end() ? place : found->second;
  };
  for (size_t i = 0; i < n; ++i) {
    const size_t place = i + static_cast<size_t>(random.below(static_cast<int64_t>(n - i)));
    const size_t drawn = at(place);
    moved[place] = at(i);
    if (enough(drawn)) return;
  }
}

// Which passages who reads, as indices into the set's.
struct Chosen {
  std::vector<size_t> decoder, encoder;
};

// The questions of one set in all settings. Immutable once made: threads share it.
class QuestionSource {
 public:
  QuestionSource(std::shared_ptr<const QuestionSet> set, QuestionTaskOptions options)
      : set_(std::move(set)), options_(std::move(options)), settings_(question_settings(options_)) {
    for (size_t p = 0; p < set_->passages.size(); ++p) {
      const std::string& article = set_->passages[p].article;
      if (!article.empty()) articles_[article].push_back(p);
    }
    if (set_->passages.empty()) settings_ = {QuestionSetting{}};
    empty_prompt_ = options_.count_tokens(Question{.before = "-"});  // a template takes no empty message
    choose_questions();
  }

  int64_t examples() const { return static_cast<int64_t>(asked_.size() * settings_.size()); }
  // Question by question, so that the settings of one follow each other.
  Example example(int64_t index) const {
    const auto i = static_cast<size_t>(index);
    return make(asked_.at(i / settings_.size()), settings_[i % settings_.size()]);
  }
  std::vector<std::string> notes() const;

 private:
  KeyedRandom random(size_t question, Purpose purpose) const {
    return KeyedRandom{options_.seed, number_of_name(set_->name), question, purpose};
  }
  void choose_questions();
  bool has_passages(const OpenQuestion& question) const;
  bool fits(size_t question) const;
  // Passages beside the gold ones; none contains what is to be avoided.
  std::vector<size_t> distractors(size_t question, int64_t count, const AnswerFinder& avoided) const;
  Chosen choose(size_t question, const QuestionSetting& setting, const AnswerFinder& avoided) const;
  Chosen choose_with_gold(size_t question, const QuestionSetting& setting, const AnswerFinder& avoided) const;
  Chosen choose_of_another(size_t question, const QuestionSetting& setting) const;
  // Whether there are questions to be shown as demonstrations, and ones that lend their passages.
  bool has_others(size_t question) const;
  // Whose passages stand for this question's; empty where none suits.
  std::vector<size_t> lender(size_t question, const QuestionSetting& setting) const;
  // Drawn from those that suit: `count`, or as many as there are.
  std::vector<size_t> questions_of_other_clusters(size_t question, Purpose purpose, size_t count,
                                                  const std::function<bool(const OpenQuestion&)>& suits) const;
  std::string demonstration(const OpenQuestion& shown) const;
  std::vector<size_t> shown_before(size_t question) const;  // the questions of its demonstrations
  std::string demonstrations(size_t question) const;
  Question worded(size_t question, const std::vector<size_t>& passages, bool any) const;
  Example make(size_t question, const QuestionSetting& setting) const;

  std::shared_ptr<const QuestionSet> set_;
  QuestionTaskOptions options_;
  std::vector<QuestionSetting> settings_;
  std::map<std::string, std::vector<size_t>> articles_;  // their passages
  std::vector<size_t> asked_;                            // questions, in their order
  int64_t empty_prompt_ = 0;  // tokens of what stands around the text, in the form's template
  int64_t without_answer_ = 0, without_passages_ = 0, without_others_ = 0, too_long_ = 0;  // that were left out
};

// Whether the question can be asked in all settings.
bool QuestionSource::has_passages(const OpenQuestion& question) const {
  return std::all_of(settings_.begin(), settings_.end(), [&](const QuestionSetting& setting) {
    if (setting.passages() == 0) return true;
    return setting.gold == GoldPassage::retrieved ? !question.passages.empty() : !question.gold.empty();
  });
}

// A text of so many bytes has at most as many tokens.
bool QuestionSource::fits(size_t question) const {
  constexpr int64_t kJoins = 16;  // where the text meets what stands around it
  return std::all_of(settings_.begin(), settings_.end(), [&](const QuestionSetting& setting) {
    const Question q = setting.decoder > 0 ? make(question, setting).question : worded(question, {}, true);
    const auto bytes = static_cast<int64_t>(q.before.size() + q.text.size() + q.after.size() + q.question.size());
    const int64_t room = options_.decoder_window - options_.max_tokens;
    return bytes + empty_prompt_ + kJoins <= room || options_.count_tokens(q) <= room;
  });
}

void QuestionSource::choose_questions() {
  const int64_t wanted = options_.questions > 0 ? options_.questions : std::numeric_limits<int64_t>::max();
  draw_until(KeyedRandom{options_.seed, number_of_name(set_->name), kOrder}, set_->questions.size(), [&](size_t q) {
    const OpenQuestion& question = set_->questions[q];
    if (question.answers.empty() && !options_.unanswerable) {
      ++without_answer_;
    } else if (!has_passages(question)) {
      ++without_passages_;
    } else if (!has_others(q)) {
      ++without_others_;
    } else if (!fits(q)) {
      ++too_long_;
    } else {
      asked_.push_back(q);
    }
    return static_cast<int64_t>(asked_.size()) >= wanted;
  });
}

std::vector<std::string> QuestionSource::notes() const {
  std::vector<std::string> notes;
  const auto note = [&](int64_t count, const std::string& why) {
    if (count > 0) notes.push_back(fmt::format("{}: questions left out, which {}: {}", set_->name, why, count));
  };
  note(without_answer_, "have no answer");
  note(without_passages_, "have no gold passage, or no passages of their own");
  note(without_others_, "have too few of other articles to show as demonstrations or to lend their passages");
  note(too_long_, fmt::format("do not fit in the decoder's window of {} tokens", options_.decoder_window));
  if (set_->passages.empty()) {
    notes.push_back(fmt::format("{}: the file has no passages: its questions are asked without", set_->name));
  }
  int64_t most = 0;
  for (const QuestionSetting& setting : settings_) most = std::max(most, setting.passages());
  if (most > 0 && static_cast<int64_t>(set_->passages.size()) < most) {
    notes.push_back(fmt::format("{}: the file has {} passages, fewer than {}: settings have what there is", set_->name,
                                set_->passages.size(), most));
  }
  return notes;
}

std::vector<size_t> QuestionSource::distractors(size_t question, int64_t count, const AnswerFinder& avoided) const {
  const OpenQuestion& asked = set_->questions[question];
  std::vector<size_t> found;
  std::set<size_t> seen(asked.gold.begin(), asked.gold.end());
  const auto enough = [&] { return static_cast<int64_t>(found.size()) >= count; };
  const auto offer = [&](size_t passage) {
    if (enough() || !seen.insert(passage).second) return enough();
    if (!avoided.found_in(passage_text(set_->passages[passage]))) found.push_back(passage);
    return enough();
  };
  for (const size_t passage : asked.passages) offer(passage);
  if (options_.same_article && !asked.gold.empty()) {
    const auto article = articles_.find(set_->passages[asked.gold.front()].article);
    if (article != articles_.end()) {
      const std::vector<size_t>& same = article->second;
      draw_until(random(question, kArticle), same.size(), [&](size_t i) { return offer(same[i]); });
    }
  }
  if (!enough()) draw_until(random(question, kOthers), set_->passages.size(), offer);
  return found;
}

Chosen QuestionSource::choose_with_gold(size_t question, const QuestionSetting& setting,
                                        const AnswerFinder& avoided) const {
  const OpenQuestion& asked = set_->questions[question];
  const int64_t places = setting.of(setting.reader);
  std::vector<size_t> gold = asked.gold;
  if (static_cast<int64_t>(gold.size()) > places) gold.resize(static_cast<size_t>(places));
  const auto golds = static_cast<int64_t>(gold.size());
  const std::vector<size_t> others = distractors(question, setting.passages() - golds, avoided);
  const bool decoder = setting.reader == PassageReader::decoder;
  const int64_t first = std::min<int64_t>(setting.decoder - (decoder ? golds : 0), std::ssize(others));
  Chosen chosen{{others.begin(), others.begin() + first}, {others.begin() + first, others.end()}};
  std::vector<size_t>& readers = decoder ? chosen.decoder : chosen.encoder;
  const int64_t place = std::min(gold_place(setting, golds, random(question, kPlace)), std::ssize(readers));
  readers.insert(readers.begin() + place, gold.begin(), gold.end());
  return chosen;
}

Chosen QuestionSource::choose(size_t question, const QuestionSetting& setting, const AnswerFinder& avoided) const {
  if (setting.passages() == 0) return {};
  if (setting.gold == GoldPassage::always) return choose_with_gold(question, setting, avoided);
  const OpenQuestion& asked = set_->questions[question];
  std::vector<size_t> all =
      setting.gold == GoldPassage::never ? distractors(question, setting.passages(), avoided) : asked.passages;
  const int64_t count = std::min<int64_t>(setting.passages(), std::ssize(all));
  const int64_t first = std::min(setting.decoder, count);
  return {{all.begin(), all.begin() + first}, {all.begin() + first, all.begin() + count}};
}

std::vector<size_t> QuestionSource::lender(size_t question, const QuestionSetting& setting) const {
  const AnswerFinder own(set_->questions[question].answers);
  const auto suits = [&](const OpenQuestion& other) {
    const std::vector<size_t>& brought = setting.gold == GoldPassage::retrieved ? other.passages : other.gold;
    return has_passages(other) && std::none_of(brought.begin(), brought.end(), [&](size_t passage) {
             return own.found_in(passage_text(set_->passages[passage]));
           });
  };
  return questions_of_other_clusters(question, kOther, 1, suits);
}

// What another question has in the setting, without an answer to this one.
Chosen QuestionSource::choose_of_another(size_t question, const QuestionSetting& setting) const {
  const size_t other = lender(question, setting).front();
  std::vector<std::string> answers = set_->questions[question].answers;
  const std::vector<std::string>& others = set_->questions[other].answers;
  answers.insert(answers.end(), others.begin(), others.end());
  return choose(other, setting, AnswerFinder(answers));
}

std::vector<size_t> QuestionSource::questions_of_other_clusters(
    size_t question, Purpose purpose, size_t count, const std::function<bool(const OpenQuestion&)>& suits) const {
  std::vector<size_t> drawn;
  if (count == 0) return drawn;
  const std::string& cluster = set_->questions[question].cluster;
  draw_until(random(question, purpose), set_->questions.size(), [&](size_t other) {
    const OpenQuestion& candidate = set_->questions[other];
    const bool answerable = options_.unanswerable || !candidate.answers.empty();
    if (candidate.cluster != cluster && answerable && suits(candidate)) drawn.push_back(other);
    return drawn.size() == count;
  });
  return drawn;
}

bool QuestionSource::has_others(size_t question) const {
  return shown_before(question).size() == static_cast<size_t>(options_.demonstrations) &&
         std::all_of(settings_.begin(), settings_.end(), [&](const QuestionSetting& setting) {
           return !setting.other || !lender(question, setting).empty();
         });
}

// "Question: ...\nAnswer: ...", with its passage before it where that is asked for.
std::string QuestionSource::demonstration(const OpenQuestion& shown) const {
  const std::string passage =
      options_.demonstration_passages ? passage_text(set_->passages[shown.gold.front()]) + "\n\n" : "";
  return fmt::format("{}Question: {}\nAnswer: {}", passage, shown.question,
                     shown.answers.empty() ? "unanswerable" : shown.answers.front());
}

std::vector<size_t> QuestionSource::shown_before(size_t question) const {
  const AnswerFinder answer(set_->questions[question].answers);
  const auto suits = [&](const OpenQuestion& shown) {
    return (!options_.demonstration_passages || !shown.gold.empty()) && !answer.found_in(demonstration(shown));
  };
  return questions_of_other_clusters(question, kDemonstrations, static_cast<size_t>(options_.demonstrations), suits);
}

std::string QuestionSource::demonstrations(size_t question) const {
  std::string text;
  for (const size_t other : shown_before(question)) {
    text += (text.empty() ? "" : "\n\n") + demonstration(set_->questions[other]);
  }
  return text;
}

// `any`: whether there are passages, in the window or in the encoder.
Question QuestionSource::worded(size_t question, const std::vector<size_t>& passages, bool any) const {
  Question made;
  made.question = set_->questions[question].question;
  made.before = any ? "Answer the question with the help of the given passages, some of which may not matter."
                    : "Answer the question.";
  made.before += " Give only the answer, in a few words.";
  if (options_.unanswerable) made.before += " If it cannot be answered, say \"unanswerable\".";
  made.before += "\n\n";
  made.text = demonstrations(question);
  for (const size_t passage : passages) {
    made.text += (made.text.empty() ? "" : "\n\n") + passage_text(set_->passages[passage]);
  }
  made.after = fmt::format("{}Question: {}\nAnswer:", made.text.empty() ? "" : "\n\n", made.question);
  return made;
}

Example QuestionSource::make(size_t question, const QuestionSetting& setting) const {
  const OpenQuestion& asked = set_->questions[question];
  const Chosen chosen =
      setting.other ? choose_of_another(question, setting) : choose(question, setting, AnswerFinder(asked.answers));
  const bool always = setting.gold == GoldPassage::always && !setting.other && setting.passages() > 0;
  Example example;
  example.id = fmt::format("{}/{}/{}", set_->name, asked.id, setting_name(setting));
  for (const size_t passage : chosen.encoder) {
    const Passage& read = set_->passages[passage];
    example.documents.push_back(
        {read.article.empty() ? fmt::format("passage {}", passage) : read.article, passage_text(read)});
  }
  example.question = worded(question, chosen.decoder, setting.passages() > 0);
  example.references = asked.answers;
  example.max_tokens = options_.max_tokens;
  example.stop = {"\n"};
  example.drop_leading_space = true;
  example.cluster = asked.cluster;
  const char* gold = gold_passage_name(setting.gold);
  if (setting.other) gold = "other";
  if (setting.passages() == 0) gold = "none";
  example.tags = {{"task", set_->name},
                  {"setting", setting_name(setting)},
                  {"decoder", std::to_string(setting.decoder)},
                  {"encoder", std::to_string(setting.encoder)},
                  {"gold", gold},
                  {"reader", always ? passage_reader_name(setting.reader) : "none"},
                  {"position", always ? setting.position : "none"},
                  {"answerable", asked.answers.empty() ? "no" : "yes"}};
  return example;
}

void check_options(const QuestionTaskOptions& options) {
  require(options.count_tokens != nullptr, "questions: expected a function that counts tokens, found none");
  const bool full = !options.decoder_passages.empty() && !options.encoder_passages.empty() && !options.gold.empty() &&
                    !options.gold_readers.empty() && !options.gold_positions.empty();
  require(full, "questions: expected numbers of passages, gold passages, readers and positions, found an empty list");
  for (const std::vector<int64_t>* counts : {&options.decoder_passages, &options.encoder_passages}) {
    for (const int64_t count : *counts) require(count >= 0, "passages: expected 0 or more, found {}", count);
  }
  for (const std::string& position : options.gold_positions) check_gold_position(position, "gold position");
  require(options.questions >= 0, "questions: expected 1 or more, or 0 for all, found {}", options.questions);
  require(options.demonstrations >= 0, "demonstrations: expected 0 or more, found {}", options.demonstrations);
  require(options.max_tokens >= 1, "tokens of an answer: expected 1 or more, found {}", options.max_tokens);
}

}  // namespace

QuestionTasks question_tasks(const std::vector<std::shared_ptr<const QuestionSet>>& sets,
                             const QuestionTaskOptions& options) {
  check_options(options);
  QuestionTasks made;
  std::set<std::string> names;
  for (const std::shared_ptr<const QuestionSet>& set : sets) {
    require(names.insert(set->name).second, "questions: two sets are called {}", set->name);
    const auto source = std::make_shared<const QuestionSource>(set, options);
    const std::vector<std::string> notes = source->notes();
    made.notes.insert(made.notes.end(), notes.begin(), notes.end());
    if (source->examples() == 0) continue;
    made.tasks.push_back(
        {set->name, source->examples(), [source](int64_t index) { return source->example(index); },
         question_scorer({.unanswerable = options.unanswerable, .yes_no = set->form == QuestionForm::hotpotqa}), "f1"});
  }
  require(!made.tasks.empty(), "questions: no question is left{}{}", made.notes.empty() ? "" : ": ",
          made.notes.empty() ? "" : made.notes.front());
  return made;
}

}  // namespace cepe
