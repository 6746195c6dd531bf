#include "ask/kinds/patterns.h"

#include <algorithm>
#include <map>

#include "ask/kinds/phrases.h"
#include "ask/sources/sentences.h"
#include "base/error.h"

namespace cepe {
namespace {

// "SUBJECT was founded in 1887": "When was SUBJECT founded?"
constexpr const char* kEvents[] = {"founded",      "established", "released",   "published", "opened",    "completed",
                                   "created",      "introduced",  "launched",   "built",     "dissolved", "abolished",
                                   "incorporated", "demolished",  "discovered", "formed",    "designed",  "born",
                                   "elected",      "inaugurated", "signed",     "patented",  "destroyed", "rebuilt"};
// "SUBJECT was written by NAME": "Who wrote SUBJECT?"
struct Act {
  const char *participle, *past;
};
constexpr Act kActs[] = {{"directed", "directed"},   {"written", "wrote"},
                         {"composed", "composed"},   {"designed", "designed"},
                         {"produced", "produced"},   {"founded", "founded"},
                         {"painted", "painted"},     {"discovered", "discovered"},
                         {"invented", "invented"},   {"built", "built"},
                         {"developed", "developed"}, {"created", "created"},
                         {"published", "published"}, {"established", "established"},
                         {"edited", "edited"},       {"conquered", "conquered"},
                         {"owned", "owned"},         {"defeated", "defeated"}};

size_t count_words(std::string_view text) { return count_occurrences(text, " ") + 1; }

// "the Beatles" of "The Beatles", as a question's middle has it.
std::string in_question(std::string_view subject) {
  return subject.starts_with("The ") ? "the" + std::string(subject.substr(3)) : std::string(subject);
}

class ArticleReader {
 public:
  explicit ArticleReader(const std::string& title) : title_(title) {}

  void read_first(const std::string& sentence) {
    if (title_.empty() || title_.find('(') != std::string::npos) return;
    read_life(sentence);
    read_definition(sentence);
  }

  void read(const std::string& sentence) {
    read_event(sentence);
    read_act(sentence);
    read_place(sentence);
    read_quantity(sentence);
    read_name(sentence);
    read_year(sentence);
  }

  // A question that has two answers has none.
  std::vector<AskTurn> turns() {
    std::vector<AskTurn> left;
    for (AskTurn& turn : turns_) {
      if (answers_[turn.question] == 1) left.push_back(std::move(turn));
    }
    return left;
  }

 private:
  void add(std::string question, std::string_view answer) {
    if (answer.size() < 2 || answer.size() > 160) return;
    ++answers_[question];
    turns_.push_back({std::move(question), std::string(answer)});
  }
  // The question, or what names the article where the subject alone does not say what is meant.
  void add(const std::string& subject, const std::string& question, std::string_view answer) {
    Subject kind = subject_kind(subject);
    // "Construction was completed in 1961": a word that begins a sentence need not be a name.
    const bool word = subject.find(' ') == std::string::npos && title_.find(subject) == std::string::npos;
    if (kind == Subject::strong && word) kind = Subject::weak;
    if (kind == Subject::strong) {
      add(capitalised(question), answer);
    } else if (kind == Subject::weak && !title_.empty()) {
      add(fmt::format("In the article \"{}\", {}", title_, question), answer);
    }
  }

  // "... (October 20, 1890 – July 10, 1941)", "... (born 3 May 1960)"
  void read_life(const std::string& sentence) {
    const size_t open = sentence.find('(');
    if (open == std::string::npos || open > 120) return;
    std::string_view inside = std::string_view(sentence).substr(open + 1);
    const size_t close = inside.find(')');
    if (close == std::string_view::npos) return;
    inside = inside.substr(0, close);
    const bool born = inside.starts_with("born ");
    if (born) inside.remove_prefix(5);
    const size_t length = date_length(inside, true);
    if (length == 0) return;
    const std::string_view rest = inside.substr(length);
    size_t dash = rest.starts_with(" – ") ? 5 : rest.starts_with(" - ") ? 3 : rest.starts_with("–") ? 3 : 0;
    const size_t second = dash == 0 ? 0 : date_length(rest.substr(dash), true);
    const bool life = second > 0 && dash + second == rest.size();
    if (!life && !(born && rest.empty())) return;
    // Wars and reigns have two dates as well.
    const bool person = born || is_person(std::string_view(sentence).substr(sentence.find(')', open)));
    if (!person) return;
    person_ = true;
    add(fmt::format("When was {} born?", title_), inside.substr(0, length));
    if (life) add(fmt::format("When did {} die?", title_), rest.substr(dash, second));
  }

  // Whether a sentence goes on with what a person is: " was a French painter in Rome".
  static bool is_person(std::string_view after) {
    for (const std::string_view verb : {" is a", " was a", " is the", " was the"}) {
      const size_t at = after.find(verb);
      if (at == std::string_view::npos) continue;
      return names_person(after.substr(at + verb.size()));
    }
    return false;
  }

  // "TITLE ... is a ..."
  void read_definition(const std::string& sentence) {
    const bool article = sentence.starts_with("The " + title_);
    if (!article && !sentence.starts_with(title_)) return;
    for (const char* verb : {" is a ", " is an ", " was a ", " was an "}) {
      const size_t at = sentence.find(verb);
      const size_t other = std::min(sentence.find(" is "), sentence.find(" was "));
      if (at == std::string::npos || at != other || at > 250) continue;
      const bool was = verb[1] == 'w';
      const std::string_view rest = std::string_view(sentence).substr(at + (was ? 5 : 4));
      std::string_view what = clause(rest);
      if (!goes_on(rest.substr(what.size()))) return;
      for (const char* stop : {" who ", " which ", " that ", " where ", " whose ", " and is ", " and was "}) {
        what = what.substr(0, what.find(stop));
      }
      const size_t words = count_words(what);
      if (words < 3 || words > 16 || what.find('<') != std::string_view::npos) return;
      const bool person = person_ || names_person(what);
      add(fmt::format("{} {} {}{}?", person ? "Who" : "What", was ? "was" : "is", article ? "the " : "", title_),
          trimmed(what));
      return;
    }
  }
  // Whether a clause that ends so is whole: "a tall, white house" is not cut at its comma.
  static bool goes_on(std::string_view after) {
    if (!after.starts_with(", ")) return !after.starts_with("(");
    const std::string_view next = after.substr(2, after.substr(2).find(' '));
    constexpr std::string_view kNext[] = {
        "who", "which", "known", "best",    "located", "born",      "based",    "where",   "with",     "in",
        "on",  "near",  "whose", "founded", "formed",  "published", "released", "written", "directed", "situated"};
    return std::find(std::begin(kNext), std::end(kNext), next) != std::end(kNext);
  }
  static bool names_person(std::string_view what) {
    constexpr std::string_view kPersons[] = {
        "player",    "actor",     "actress",    "singer",   "composer",   "painter",   "philosopher",   "politician",
        "driver",    "writer",    "author",     "poet",     "director",   "musician",  "footballer",    "noblewoman",
        "nobleman",  "king",      "queen",      "bishop",   "officer",    "model",     "journalist",    "artist",
        "comedian",  "professor", "scientist",  "producer", "soprano",    "wrestler",  "boxer",         "coach",
        "rapper",    "racer",     "swimmer",    "lawyer",   "economist",  "historian", "mathematician", "physicist",
        "chemist",   "guitarist", "pianist",    "drummer",  "songwriter", "novelist",  "businessman",   "architect",
        "soldier",   "explorer",  "missionary", "priest",   "theologian", "skater",    "cricketer",     "cyclist",
        "immigrant", "activist",  "diplomat",   "judge",    "engineer",   "dancer",    "filmmaker",     "photographer"};
    // "a war between the king and the town" is none.
    for (const char* stop :
         {", ", ".", " of ", " in ", " by ", " between ", " against ", " for ", " who ", " which "}) {
      what = what.substr(0, what.find(stop));
    }
    for (const std::string_view person : kPersons) {
      const size_t at = what.find(person);
      const size_t end = at + person.size();
      const bool whole = at != std::string_view::npos && at > 0 && what[at - 1] == ' ' &&
                         (end == what.size() || what[end] == ' ' || what[end] == ',');
      if (whole) return true;
    }
    return false;
  }

  void read_event(const std::string& sentence) {
    for (const char* event : kEvents) {
      for (const char* verb : {"was", "were"}) {
        const std::string middle = fmt::format(" {} {} ", verb, event);
        const size_t at = sentence.find(middle);
        if (at == std::string::npos) continue;
        std::string_view rest = std::string_view(sentence).substr(at + middle.size());
        const bool day = rest.starts_with("on ");
        if (!day && !rest.starts_with("in ")) continue;
        rest.remove_prefix(3);
        const size_t length = date_length(rest, day);
        if (length == 0 || (length < rest.size() && (rest[length] == '-' || rest[length] == '/'))) continue;
        const std::string subject = sentence.substr(0, at);
        add(subject, fmt::format("when {} {} {}?", verb, in_question(subject), event), rest.substr(0, length));
      }
    }
  }

  void read_act(const std::string& sentence) {
    for (const Act& act : kActs) {
      for (const char* verb : {"was", "is"}) {
        const std::string middle = fmt::format(" {} {} by ", verb, act.participle);
        const size_t at = sentence.find(middle);
        if (at == std::string::npos) continue;
        const std::string_view rest = std::string_view(sentence).substr(at + middle.size());
        const size_t length = name_length(rest, false);
        const std::string_view name = rest.substr(0, length), after = rest.substr(length);
        // One name, and nobody else: a stop, or a word that does not go on with names.
        if (length < 4 || !ends_name(after) || count_words(name) > 6) continue;
        const std::string subject = sentence.substr(0, at);
        const bool now = verb[0] == 'i' && std::string_view(act.past) == "owned";
        add(subject, fmt::format("who {} {}?", now ? "owns" : act.past, in_question(subject)), name);
      }
    }
  }

  static bool ends_name(std::string_view after) {
    if (after.empty() || after[0] == '.' || after[0] == ';' || after[0] == ')') return true;
    if (after.starts_with(", ")) return name_length(after.substr(2), false) == 0 && !after.starts_with(", and ");
    constexpr std::string_view kNext[] = {" in ",   " for ", " on ",    " at ",    " with ", " during ",
                                          " from ", " as ",  " under ", " after ", " while "};
    return std::any_of(std::begin(kNext), std::end(kNext),
                       [&](std::string_view next) { return after.starts_with(next); });
  }

  void read_place(const std::string& sentence) {
    struct Place {
      const char *middle, *question;
    };
    constexpr Place kPlaces[] = {{" is located in ", "where is {} located?"},
                                 {" was located in ", "where was {} located?"},
                                 {" is situated in ", "where is {} situated?"},
                                 {" was born in ", "where was {} born?"},
                                 {" died in ", "where did {} die?"},
                                 {" was born at ", "where was {} born?"},
                                 {" is headquartered in ", "where is {} headquartered?"},
                                 {" is based in ", "where is {} based?"},
                                 {" took place in ", "where did {} take place?"},
                                 {" grew up in ", "where did {} grow up?"},
                                 {" flows into ", "into what does {} flow?"}};
    for (const Place& place : kPlaces) {
      const size_t at = sentence.find(place.middle);
      if (at == std::string::npos) continue;
      const std::string_view rest = std::string_view(sentence).substr(at + std::string_view(place.middle).size());
      const size_t length = name_length(rest, true);
      // A month is no place, and "Paris and London" is more than one.
      if (length < 4 || rest.substr(length).starts_with(" and ") || begins_with_month(rest)) continue;
      const std::string subject = sentence.substr(0, at);
      add(subject, fmt::format(fmt::runtime(place.question), in_question(subject)), rest.substr(0, length));
    }
  }

  void read_quantity(const std::string& sentence) {
    for (const char* middle : {" has a population of ", " had a population of "}) {
      const size_t at = sentence.find(middle);
      if (at == std::string::npos) continue;
      const std::string_view rest = std::string_view(sentence).substr(at + std::string_view(middle).size());
      size_t length = 0;
      while (length < rest.size() && std::string_view("0123456789,").find(rest[length]) != std::string_view::npos)
        ++length;
      while (length > 0 && rest[length - 1] == ',') --length;
      const std::string subject = sentence.substr(0, at);
      if (length > 0 && !rest.substr(length).starts_with(" million")) {
        add(subject,
            fmt::format("what {} the population of {}?", middle[3] == 's' ? "is" : "was", in_question(subject)),
            rest.substr(0, length));
      }
    }
    const size_t at = sentence.find(" has ");
    if (at == std::string::npos) return;
    const std::string_view rest = std::string_view(sentence).substr(at + 5);
    const size_t length = number_length(rest);
    if (length == 0 || rest.starts_with("one ")) return;
    const std::string_view things = clause(rest.substr(std::min(rest.size(), length + 1)));
    const bool plural = things.ends_with("s") && !things.ends_with("ss") && count_words(things) <= 2;
    const std::string subject = sentence.substr(0, at);
    if (plural && things.size() > 3 && name_length(things, false) == 0) {
      add(subject, fmt::format("how many {} does {} have?", things, in_question(subject)), rest.substr(0, length));
    }
  }

  void read_name(const std::string& sentence) {
    struct Naming {
      const char *middle, *question;
      size_t words;
    };
    constexpr Naming kNamings[] = {{" is also known as ", "what is {} also known as?", 6},
                                   {" was also known as ", "what was {} also known as?", 6},
                                   {" is best known for ", "what is {} best known for?", 14},
                                   {" was best known for ", "what was {} best known for?", 14},
                                   {" was named after ", "after whom or what was {} named?", 8},
                                   {" is named after ", "after whom or what is {} named?", 8},
                                   {" was succeeded by ", "who succeeded {}?", 5},
                                   {" was replaced by ", "who or what replaced {}?", 6},
                                   {" is bordered by ", "what borders {}?", 12},
                                   {" stands for ", "what does {} stand for?", 8}};
    for (const Naming& naming : kNamings) {
      const size_t at = sentence.find(naming.middle);
      if (at == std::string::npos) continue;
      const std::string_view rest = std::string_view(sentence).substr(at + std::string_view(naming.middle).size());
      const std::string_view what = clause(rest);
      const std::string_view after = rest.substr(what.size());
      // A list goes on behind the comma.
      const bool list = after.starts_with(",") && std::string_view(naming.middle) == " is bordered by ";
      const std::string subject = sentence.substr(0, at);
      if (list || count_words(what) > naming.words || what.size() < 3) continue;
      add(subject, fmt::format(fmt::runtime(naming.question), in_question(subject)), what);
    }
    for (const char* middle : {" is the capital of ", " is the capital and largest city of "}) {
      const size_t at = sentence.find(middle);
      if (at == std::string::npos) continue;
      const std::string_view rest = std::string_view(sentence).substr(at + std::string_view(middle).size());
      const size_t length = name_length(rest, false);
      const std::string_view subject = std::string_view(sentence).substr(0, at);
      if (length > 2 && subject_kind(subject) == Subject::strong) {
        add(fmt::format("What is the capital of {}?", rest.substr(0, length)), subject);
      }
    }
  }

  // "In 1917, he followed ...": the sentence itself is the question's middle.
  void read_year(const std::string& sentence) {
    if (!sentence.starts_with("In ")) return;
    const std::string_view rest = std::string_view(sentence).substr(3);
    const size_t length = date_length(rest, false);
    if (length == 0 || !rest.substr(length).starts_with(", ")) return;
    std::string_view what = rest.substr(length + 2);
    const size_t words = count_words(what);
    if (words < 6 || words > 30 || what.find("that year") != std::string_view::npos) return;
    while (!what.empty() && (what.back() == '.' || what.back() == ' ')) what.remove_suffix(1);
    add(fmt::format("{} did this happen: {}?", length == 4 ? "In which year" : "When", what), rest.substr(0, length));
  }

  const std::string& title_;
  bool person_ = false;
  std::vector<AskTurn> turns_;
  std::map<std::string, int> answers_;
};

}  // namespace

std::vector<AskTurn> questions_about(const std::string& title, std::string_view text) {
  ArticleReader reader(title);
  bool first = true;
  for (const std::string_view piece : split_sentences(text)) {
    const std::string sentence = on_one_line(piece);
    // A sentence ends with a stop; headings and lists do not.
    if (sentence.size() < 20 || (sentence.back() != '.' && sentence.back() != '"')) continue;
    if (first) reader.read_first(sentence);
    first = false;
    reader.read(sentence);
  }
  return reader.turns();
}

}  // namespace cepe
